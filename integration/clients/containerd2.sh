#!/usr/bin/env bash
# containerd 2 and its CRI by crictl: as version 1.6, and with STATUS. Run by run.sh.
. "$(dirname "$0")/containerd.sh"
