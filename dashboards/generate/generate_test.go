package main

import (
	"os"
	"testing"
)

// TestGenerated: the dashboards in the tree are what this generates.
func TestGenerated(t *testing.T) {
	for _, b := range boards() {
		want, err := b.json()
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile("../" + b.uid + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("dashboards/%s.json is not what is generated; run go run ./dashboards/generate", b.uid)
		}
	}
}
