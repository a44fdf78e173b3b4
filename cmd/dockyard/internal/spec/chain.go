package spec

// portmap has to know what mode the gateway has where containers are reached by their
// own addresses.
func (b *builder) portmap() *object {
	p := (&object{}).set("type", "portmap")
	for _, k := range []string{"gatewayMode", "gatewayModeIPv4", "gatewayModeIPv6"} {
		if b.plugin("").values[k] == "routed" {
			p.set(k, "routed")
		}
	}
	for _, k := range b.plugin("portmap").keys {
		p.set(k, b.plugins["portmap"].values[k])
	}
	return p.set("capabilities", (&object{}).set("portMappings", true))
}

func (b *builder) names() *object {
	p := (&object{}).set("type", "dns-hosts")
	if b.Internal {
		p.set("internal", true)
	}
	for _, k := range b.plugin("dns-hosts").keys {
		p.set(k, b.plugins["dns-hosts"].values[k])
	}
	p.set("netnsFiles", true)
	if b.DNS != nil {
		p.set("dns", (&object{}).set("nameservers", b.DNS))
	}
	return p.set("capabilities", (&object{}).set("aliases", true).set("dns", true).set("portMappings", true))
}
