package lease

import (
	"encoding/binary"
	"hash/crc32"
)

// decode reads a record. One that fails its checksum fails the index, and gives
// nothing: noise must not tell that a container is gone.
func (x *index) decode(at int64, size int, into any) {
	buf := make([]byte, size)
	_, err := x.ReadAt(buf, at)
	if err == nil {
		err = unmarshal(buf, into)
	}
	if err != nil {
		x.fail(err)
	}
}

func (x *index) encode(at int64, record any) {
	buf, err := marshal(record)
	if err == nil && x.err == nil { // after a failure the index is as good as gone
		_, err = x.WriteAt(buf, at)
	}
	if err != nil {
		x.fail(err)
	}
}

// marshal returns the bytes of a record, the last field of which is its checksum.
func marshal(record any) ([]byte, error) {
	buf := make([]byte, binary.Size(record))
	_, err := binary.Encode(buf, order, record)
	body := buf[:len(buf)-4]
	order.PutUint32(buf[len(body):], crc32.ChecksumIEEE(body))
	return buf, err
}

func unmarshal(buf []byte, into any) error {
	body := buf[:len(buf)-4]
	if order.Uint32(buf[len(body):]) != crc32.ChecksumIEEE(body) {
		return errStale
	}
	_, err := binary.Decode(buf, order, into)
	return err
}
