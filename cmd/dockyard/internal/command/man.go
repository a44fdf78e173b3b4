package command

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// man writes the manual's pages, for packages to install.
func (a *app) man() *cobra.Command {
	return &cobra.Command{
		Use: "man DIRECTORY", Short: "Write the manual's pages into a directory", Args: arguments(1, 1), Hidden: true,
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := c.Root()
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{Section: "8", Source: "Dockyard", Manual: "Dockyard"}, args[0])
		},
	}
}
