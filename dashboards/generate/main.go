// Command generate writes the Grafana dashboards: go run ./dashboards/generate (from the top of the tree). They are
// generated since what all panels have in common, such as the data source, the selection of job, instance and pool,
// and both forms of a histogram, would otherwise be written a hundred times and once differently.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	folder := "dashboards"
	if len(os.Args) > 1 {
		folder = os.Args[1]
	}
	for _, b := range boards() {
		if err := write(filepath.Join(folder, b.uid+".json"), b); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
	}
}

func boards() []board { return []board{overview(), backend(), capacity()} }

func write(path string, b board) error {
	text, err := b.json()
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// json is the dashboard as Grafana imports it, by hand, by provisioning and by a sidecar alike.
func (b board) json() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(b.object())
	return out.Bytes(), err
}
