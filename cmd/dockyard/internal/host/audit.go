package host

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// journal is where systemd's journal takes messages (systemd.io/JOURNAL_NATIVE_PROTOCOL).
const journal = "/run/systemd/journal/socket"

// Audit writes who has changed what, and when: into the file of the configuration, or
// into the journal if there is one.
func (h *Host) Audit(format string, args ...any) {
	what := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")
	line := fmt.Sprintf("%s by %s", what, user())
	if h.Config.Audit == "" {
		if c, err := net.Dial("unixgram", journal); err == nil {
			_, err = fmt.Fprintf(c, "MESSAGE=%s\nSYSLOG_IDENTIFIER=dockyard\nPRIORITY=5\n", line)
			_ = c.Close()
			h.auditFailed(err)
		}
		return
	}
	f, err := os.OpenFile(h.Config.Audit, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(f, "%s dockyard: %s\n", time.Now().UTC().Format(time.RFC3339), line)
		_ = f.Close()
	}
	h.auditFailed(err)
}

func (h *Host) auditFailed(err error) {
	if err != nil {
		h.Warn("the change was not written down: " + err.Error())
	}
}

// user is who is logged in, also behind sudo and su.
func user() string {
	const unset = "4294967295"
	uid := fmt.Sprint(os.Getuid())
	if b, err := os.ReadFile("/proc/self/loginuid"); err == nil {
		if login := strings.TrimSpace(string(b)); login != unset && login != uid {
			uid += ", logged in as uid " + login
		}
	}
	if name := os.Getenv("SUDO_USER"); name != "" {
		uid += " (sudo by " + strings.ReplaceAll(name, "\n", " ") + ")"
	}
	return "uid " + uid
}
