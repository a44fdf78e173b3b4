package zone

import (
	"fmt"
	"strings"
	"testing"
)

// What ADD and DEL cost does not grow with the containers of the network, but
// for a hosts file that is read once.
func BenchmarkEntry(b *testing.B) {
	for _, n := range []int{0, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := b.TempDir()
			s := Store{Root: dir, NetNS: dir}
			for i := range n {
				c := strings.Repeat(fmt.Sprintf("%04x", i), 16)
				if err := (Entry{Store: s, Record: *record("net", c, "eth0", []string{fmt.Sprintf("name%d", i), c[:12]}, fmt.Sprintf("10.0.%d.%d", i/250, i%250))}).Apply(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			e := Entry{Store: s, Record: *record("net", "new", "eth0", []string{"new"}, "10.9.0.1")}
			for b.Loop() {
				if err := e.Apply(b.Context()); err != nil {
					b.Fatal(err)
				}
				if err := e.Remove(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
