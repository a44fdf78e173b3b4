package netns

import "testing"

// A plan asks for the host's handle for each of its steps: all get one socket.
func TestD11HostHandleIsOne(t *testing.T) {
	a, err := Host().Netlink()
	if err != nil {
		t.Fatal(err)
	}
	other := Host()
	b, err := other.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Error("two handles for the namespace of one thread")
	}
	other.Close()
	if _, err := a.LinkByName("lo"); err != nil {
		t.Errorf("after one of its users closed it: %v", err)
	}
}
