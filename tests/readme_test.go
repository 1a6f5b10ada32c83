package tests

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// configKey is a key of lb.toml, which may be commented out.
var configKey = regexp.MustCompile(`(?m)^[# ]*([a-z][a-z0-9_]*) += `)

// TestReadmeExplainsEveryKey holds the configuration reference against the
// example, which has every key.
func TestReadmeExplainsEveryKey(t *testing.T) {
	example, err := os.ReadFile("../lb.toml")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, reference, _ := strings.Cut(string(readme), "\n## Configuration\n")
	reference, _, _ = strings.Cut(reference, "\n## ")
	keys := configKey.FindAllStringSubmatch(string(example), -1)
	if len(keys) < 20 {
		t.Fatalf("lb.toml: got %d keys, want them all", len(keys))
	}
	for _, key := range keys {
		if !strings.Contains(reference, "`"+key[1]+"`") {
			t.Errorf("README.md: the configuration reference lacks %s", key[1])
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)\)`)

// TestReadmeLinksToWhatIsThere follows the links to files of the repository.
func TestReadmeLinksToWhatIsThere(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range link.FindAllStringSubmatch(string(readme), -1) {
		if _, err := os.Stat("../" + l[1]); err != nil {
			t.Errorf("README.md: link to %s: %v", l[1], err)
		}
	}
}
