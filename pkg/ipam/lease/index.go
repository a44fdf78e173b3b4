package lease

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// An index answers in a few reads, whatever the number of leases, what the
// directory alone would have to be read in full for: which addresses an
// attachment has, which address has been free the longest, how many are used.
// It also keeps what an address file has no room for: how to tell that the
// lease's container is gone.
//
// It is a hint. The directory decides; an index that contradicts it, or that
// the last writer did not finish, is made again from the directory. So nothing
// here is synced, journalled or locked beyond the directory's lock.
//
// On disk: a header, the lists, two hash tables of slot numbers (by address, by
// owner), the slots. A slot is an address that is used, or was and is now in a
// list of free ones, least recently released first. Slot 0 stands for none.
type index struct {
	file
	header
	// err is the first failure of a read or write, or the first link that
	// cannot be. Callers look once, after a group of calls.
	err error
}

type file interface {
	io.ReaderAt
	io.WriterAt
}

// memory is an index that is being made, or has no room on disk.
type memory []byte

func (m memory) ReadAt(p []byte, at int64) (int, error)  { return copy(p, m[at:]), nil }
func (m memory) WriteAt(p []byte, at int64) (int, error) { return copy(m[at:], p), nil }

type header struct {
	Magic     [16]byte
	Boot      [16]byte // written in this boot; caches of another may be lost in part
	Sec, Nsec int64    // the directory's mark when the last writer finished
	Size      uint32   // number of slots, and of entries in each hash table
	Lists     uint32
	Spare     uint32 // first of the slots that hold nothing
	Spares    uint32
	Seq       uint64 // counts releases
	Directory uint64 // inode number
	_         [44]byte
	Sum       uint32
}

// A list is the free addresses of one pool. The first list is for those of no
// pool that the last writer knew.
type list struct {
	Print  [16]byte // of the pool
	Cursor [16]byte // the address that was taken last from those without a slot
	Fresh  uint64   // how many the cursor has still to visit
	Used   uint32   // addresses of the pool that are leased
	Length uint32
	Head   uint32
	Tail   uint32
	_      uint32
	Sum    uint32
}

type slot struct {
	Addr  [16]byte
	Owner [16]byte
	Life  Life
	Seq   uint64 // of the release
	List  uint32
	State uint32
	// NextAddr and NextOwner link the slots of one hash table entry.
	NextAddr, NextOwner uint32
	// Next and Prev link a list, or the slots that hold nothing.
	Next, Prev uint32
	_          [36]byte
	Sum        uint32
}

const (
	spare = iota
	used
	released
)

const (
	headerSize = 128
	listSize   = 64
	slotSize   = 128 // a power of two: no slot straddles a disk sector
	minSlots   = 64
	maxSlots   = 1 << 26
	maxLists   = 1 << 10
)

var order = binary.LittleEndian

// magic has bytes that no containerID and no address has.
func magic() [16]byte { return [16]byte([]byte("dockyard leases\n")) }

var errStale = errors.New("lease index: out of step with its directory")

func ownerHash(k owner.Key) [16]byte {
	sum := sha256.Sum256([]byte(content(k)))
	return [16]byte(sum[:])
}

// newIndex returns an empty index in memory.
func newIndex(slots int, lists []list) *index {
	size := uint32(minSlots)
	for int(size) < slots {
		size *= 2
	}
	x := &index{header: header{Magic: magic(), Size: size, Lists: uint32(len(lists))}}
	x.file = make(memory, x.slotAt(size+1))
	for i, l := range lists {
		x.putList(uint32(i), l)
	}
	for n := size; n > 0; n-- {
		x.putSpare(n)
	}
	return x
}

// openIndex opens an index for reading and writing. If it is cut short the
// error comes with what can still be read of it.
func openIndex(path string) (*index, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	x := &index{file: f}
	x.decode(0, headerSize, &x.header)
	if x.err != nil || x.Magic != magic() || x.Size > maxSlots || x.Lists > maxLists {
		_ = f.Close()
		return nil, errStale
	}
	if st, err := f.Stat(); err != nil || st.Size() != x.slotAt(x.Size+1) {
		return x, errStale
	}
	return x, nil
}

func (x *index) close() {
	if x == nil {
		return
	}
	if f, ok := x.file.(*os.File); ok {
		_ = f.Close()
	}
}

// unfinished is the suffix of an index that is being made.
const unfinished = ".new"

// save writes an index that was made in memory, whole or not at all, and goes
// on with the file.
func (x *index) save(path string) error {
	x.putHeader()
	f, err := os.OpenFile(path+unfinished, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(x.file.(memory)); err == nil {
		err = os.Rename(path+unfinished, path)
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(path+unfinished))
	}
	x.file = f
	return nil
}

func (x *index) putHeader() {
	x.encode(0, x.header)
}

func (x *index) bucketAt(table int, hash uint32) int64 {
	return headerSize + listSize*int64(x.Lists) + 4*(int64(table)*int64(x.Size)+int64(hash%x.Size))
}

func (x *index) slotAt(n uint32) int64 {
	return headerSize + listSize*int64(x.Lists) + 8*int64(x.Size) + slotSize*int64(n-1)
}

func (x *index) slot(n uint32) (s slot) {
	if n == 0 || n > x.Size {
		x.fail(errStale)
		return s
	}
	x.decode(x.slotAt(n), slotSize, &s)
	return s
}

func (x *index) putSlot(n uint32, s slot) {
	if n == 0 || n > x.Size {
		x.fail(errStale)
		return
	}
	x.encode(x.slotAt(n), s)
}

func (x *index) list(i uint32) (l list) {
	if i >= x.Lists {
		x.fail(errStale)
		return l
	}
	x.decode(headerSize+listSize*int64(i), listSize, &l)
	return l
}

func (x *index) putList(i uint32, l list) {
	if i >= x.Lists {
		x.fail(errStale)
		return
	}
	x.encode(headerSize+listSize*int64(i), l)
}

func (x *index) fail(err error) {
	if x.err == nil {
		x.err = err
	}
}

func (s slot) addr() netip.Addr { return netip.AddrFrom16(s.Addr).Unmap() }
