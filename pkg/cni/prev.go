package cni

// PrevIPs returns the addresses that prevResult gives the attachment.
func (r *Request) PrevIPs() ([]IP, error) { return ips(r.Prev, r.Owner.IfName) }
