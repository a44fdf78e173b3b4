module github.com/dockyard-cni/dockyard

go 1.26

require (
	github.com/agnivade/levenshtein v1.2.2
	github.com/containernetworking/cni v1.3.0
	github.com/vishvananda/netlink v1.3.1
	github.com/vishvananda/netns v0.0.5
	golang.org/x/sys v0.35.0
)

require (
	github.com/onsi/ginkgo/v2 v2.25.1 // indirect
	github.com/onsi/gomega v1.38.1 // indirect
)

tool github.com/containernetworking/cni/cnitool
