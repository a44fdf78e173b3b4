package nft

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// google/nftables can only list; these few lines ask the kernel for one object
// by its name or key, which costs the same however many there are.

// A found element is what the kernel holds under a key.
type found struct {
	value   []byte // of a map
	comment string
}

// query sends one request that has one answer. The error of a missing object,
// or of a missing table around it, wraps fs.ErrNotExist.
func query(ctx context.Context, kind int, t *nftables.Table, attrs []netlink.Attribute) ([]byte, error) {
	answers, err := queryAll(ctx, kind, t, [][]netlink.Attribute{attrs})
	if err != nil {
		return nil, err
	}
	return answers[0].Data, answers[0].err
}

// queryAll sends requests of one kind, each with the attributes that it is given,
// and returns an answer, or an error like query's, to each.
func queryAll(ctx context.Context, kind int, t *nftables.Table, attrs [][]netlink.Attribute) ([]answer, error) {
	q, err := here()
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return slices.Repeat([]answer{{err: errMissing}}, len(attrs)), nil
	}
	if err != nil {
		return nil, fmt.Errorf("nf_tables netlink: %w", err)
	}
	questions := make([]netlink.Message, len(attrs))
	for i := range attrs {
		if questions[i], err = question(kind, t, attrs[i]); err != nil {
			return nil, err
		}
	}
	answers, err := q.ask(ctx, questions)
	if err != nil {
		return nil, err
	}
	for i, a := range answers {
		if errors.Is(a.err, unix.EINVAL) && kind != unix.NFT_MSG_GETGEN {
			missing, missingErr := Missing(ctx)
			if missingErr != nil {
				return nil, missingErr
			}
			if missing {
				answers[i].err = errMissing
			}
		} else if a.err == nil {
			answers[i].Data, answers[i].err = body(a.Message, questions[i].Header.Sequence)
		}
	}
	return answers, nil
}

func question(kind int, t *nftables.Table, attrs []netlink.Attribute) (netlink.Message, error) {
	data, err := netlink.MarshalAttributes(attrs)
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request},
		Data:   append([]byte{byte(t.Family), unix.NFNETLINK_V0, 0, 0}, data...),
	}, err
}

// body returns an answer's attributes, if it is one to the question of that number.
func body(m netlink.Message, sequence uint32) ([]byte, error) {
	if m.Header.Sequence != sequence || len(m.Data) < 4 {
		return nil, fmt.Errorf("nf_tables: answer %d of %d bytes, want one to question %d", m.Header.Sequence, len(m.Data), sequence)
	}
	return m.Data[4:], nil
}

// errMissing is the error of a kernel without nf_tables: there nothing is, so
// nothing has to be removed either.
var errMissing = fmt.Errorf("the kernel has no nf_tables: %w", fs.ErrNotExist)

func text(s string) []byte { return append([]byte(s), 0) }

// chainExists reports whether table t has the chain.
func chainExists(ctx context.Context, t *nftables.Table, name string) (bool, error) {
	_, err := query(ctx, unix.NFT_MSG_GETCHAIN, t, chainAttrs(t, name))
	return err == nil, absent(err)
}

func chainAttrs(t *nftables.Table, name string) []netlink.Attribute {
	return []netlink.Attribute{
		{Type: unix.NFTA_CHAIN_TABLE, Data: text(t.Name)},
		{Type: unix.NFTA_CHAIN_NAME, Data: text(name)},
	}
}

// get returns the element of s under key; nil where there is none, or no set.
func get(ctx context.Context, t *nftables.Table, s set, key []byte) (*found, error) {
	all, err := getAll(ctx, t, []element{{set: s, key: key}})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// getAll is get for many elements, of which sets and keys are looked at alone.
func getAll(ctx context.Context, t *nftables.Table, es []element) ([]*found, error) {
	if len(es) == 0 {
		return nil, nil
	}
	nested := func(kind uint16, inner ...netlink.Attribute) netlink.Attribute {
		data, err := netlink.MarshalAttributes(inner)
		if err != nil { // only for attributes beyond 64 KiB
			panic(err)
		}
		return netlink.Attribute{Type: kind | unix.NLA_F_NESTED, Data: data}
	}
	attrs := make([][]netlink.Attribute, len(es))
	for i, e := range es {
		attrs[i] = []netlink.Attribute{
			{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: text(t.Name)},
			{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: text(e.set.name)},
			nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, nested(unix.NFTA_LIST_ELEM,
				nested(unix.NFTA_SET_ELEM_KEY, netlink.Attribute{Type: unix.NFTA_DATA_VALUE, Data: e.key}))),
		}
	}
	answers, err := queryAll(ctx, unix.NFT_MSG_GETSETELEM, t, attrs)
	if err != nil {
		return nil, err
	}
	out := make([]*found, len(es))
	for i, a := range answers {
		if a.err == nil {
			out[i], a.err = parse(a.Data)
		}
		if absent(a.err) != nil {
			return nil, a.err
		}
	}
	return out, nil
}

// digests lists the user data of a table's rules by chain, and nothing else of
// them, which is all that tells them apart.
func digests(t *nftables.Table) (map[string][][]byte, error) {
	q, err := here()
	if err != nil {
		return nil, fmt.Errorf("nf_tables netlink: %w", err)
	}
	m, err := question(unix.NFT_MSG_GETRULE, t, []netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: text(t.Name)}})
	if err != nil {
		return nil, err
	}
	m.Header.Flags |= netlink.Dump
	answers, err := q.list(m)
	if err != nil {
		return nil, err
	}
	out := map[string][][]byte{}
	for _, a := range answers {
		chain, err := attribute(a.Data[4:], unix.NFTA_RULE_CHAIN)
		if err != nil {
			return nil, err
		}
		digest, _ := attribute(a.Data[4:], unix.NFTA_RULE_USERDATA) // none: somebody else's rule
		name := unix.ByteSliceToString(chain)
		out[name] = append(out[name], digest)
	}
	return out, nil
}

func parse(b []byte) (*found, error) {
	list, err := attribute(b, unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	if err != nil {
		return nil, err
	}
	elem, err := attribute(list, unix.NFTA_LIST_ELEM)
	if err != nil {
		return nil, err
	}
	f := &found{}
	ad, err := netlink.NewAttributeDecoder(elem)
	if err != nil {
		return nil, err
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_SET_ELEM_DATA:
			f.value = ad.Bytes() // with its header: a value or a verdict
		case unix.NFTA_SET_ELEM_USERDATA:
			f.comment, _ = userdata.GetString(ad.Bytes(), userdata.NFTNL_UDATA_SET_ELEM_COMMENT)
		}
	}
	return f, ad.Err()
}

func attribute(b []byte, kind uint16) ([]byte, error) {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return nil, err
	}
	for ad.Next() {
		if ad.Type() == kind {
			return ad.Bytes(), nil
		}
	}
	return nil, errors.Join(ad.Err(), fmt.Errorf("nf_tables: no attribute %d in the answer", kind))
}

// absent turns the error of a missing object into nil.
func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
