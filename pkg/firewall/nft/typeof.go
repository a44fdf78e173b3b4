package nft

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// typeofVNI is the user data by which nft(8) shows the key of a verdict map as
// "typeof @th,96,24", and reads it back: a VNI is of no named type, and the library
// cannot say so. The numbers are those of nft's NFTNL_UDATA_SET_KEY_TYPEOF and of
// its serialization of a payload expression.
func typeofVNI() []byte {
	number := func(b []byte, kind userdata.Type, n uint32) []byte {
		return userdata.Append(b, kind, binaryutil.NativeEndian.PutUint32(n))
	}
	const expression, fields, payloadExpr, verdictExpr = 0, 1, 7, 1
	const base, offset, bits, transport = 2, 3, 4, 3
	where := number(number(number(nil, base, transport), offset, 8*vniOffset), bits, 8*vniLength)
	where = append(number(number(nil, 0, 0), 1, 0), where...)
	key := userdata.Append(number(nil, expression, payloadExpr), fields, where)
	data := userdata.Append(number(nil, expression, verdictExpr), fields, nil)
	const bigEndian = 2
	out := number(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, bigEndian)
	out = userdata.Append(out, userdata.NFTNL_UDATA_SET_KEY_TYPEOF, key)
	return userdata.Append(out, userdata.NFTNL_UDATA_SET_DATA_TYPEOF, data)
}

// addTunnels makes the table, if it is not there, and in it the map of tunnels with
// its type for nft(8), in a transaction of its own. A map that is there stays.
func addTunnels(ctx context.Context, t *nftables.Table) error {
	if present, err := setExists(ctx, t, tunnels.name); err != nil || present {
		return err
	}
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("nf_tables netlink: %w", err)
	}
	defer conn.Close() //nolint:errcheck // all was answered
	number := func(kind uint16, n uint32) netlink.Attribute {
		return netlink.Attribute{Type: kind, Data: binaryutil.BigEndian.PutUint32(n)}
	}
	table := []netlink.Attribute{{Type: unix.NFTA_TABLE_NAME, Data: text(t.Name)}}
	set := []netlink.Attribute{
		{Type: unix.NFTA_SET_TABLE, Data: text(t.Name)}, {Type: unix.NFTA_SET_NAME, Data: text(tunnels.name)},
		number(unix.NFTA_SET_FLAGS, unix.NFT_SET_MAP), number(unix.NFTA_SET_ID, 1),
		number(unix.NFTA_SET_KEY_TYPE, nftables.TypeInteger.GetNFTMagic()), number(unix.NFTA_SET_KEY_LEN, vniLength),
		number(unix.NFTA_SET_DATA_TYPE, uint32(unix.NFT_DATA_VERDICT)), number(unix.NFTA_SET_DATA_LEN, 0),
		{Type: unix.NFTA_SET_USERDATA, Data: typeofVNI()},
	}
	var batch []netlink.Message
	message := func(kind int, flags netlink.HeaderFlags, family byte, resource uint16, attrs []netlink.Attribute) {
		body, marshalErr := netlink.MarshalAttributes(attrs)
		err = errors.Join(err, marshalErr)
		batch = append(batch, netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags},
			Data:   append([]byte{family, unix.NFNETLINK_V0, byte(resource >> 8), byte(resource)}, body...),
		})
	}
	const subsystem, make = unix.NFNL_SUBSYS_NFTABLES << 8, netlink.Create | netlink.Acknowledge
	message(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil)
	message(subsystem|unix.NFT_MSG_NEWTABLE, make, byte(t.Family), 0, table)
	message(subsystem|unix.NFT_MSG_NEWSET, make, byte(t.Family), 0, set)
	message(unix.NFNL_MSG_BATCH_END, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil)
	if err != nil {
		return err
	}
	if _, err = conn.SendMessages(batch); err != nil {
		return fmt.Errorf("map %s: %w", tunnels.name, err)
	}
	for range 2 { // an answer each
		if _, err = conn.Receive(); err != nil {
			return fmt.Errorf("map %s: %w", tunnels.name, err)
		}
	}
	return nil
}
