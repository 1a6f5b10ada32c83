package config

import (
	"errors"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// Load reads and checks the file at path.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err // says what, where and why
	}
	return Parse(path, data)
}

// Parse reads and checks data, the contents of the file name. The error joins an
// *Error for each thing that is wrong, in the order of the file; only a mistake
// in TOML's own grammar hides the others, as nothing after it can be understood.
func Parse(name string, data []byte) (*Config, error) {
	r := &report{file: name}
	if !utf8.Valid(data) {
		r.add(1, "not a text file (want TOML in UTF-8)")
		return nil, r.err()
	}
	// Both take a while for a long file, and neither needs the other.
	places := make(chan *place, 1)
	go func() { places <- locate(string(data), 1) }()
	var values map[string]any
	if _, err := toml.Decode(string(data), &values); err != nil {
		var syntax toml.ParseError
		if !errors.As(err, &syntax) {
			return nil, err
		}
		r.add(syntax.Position.Line, "not valid TOML: "+strings.TrimSuffix(syntax.Message, "."))
		return nil, r.err()
	}
	c := &Config{File: name}
	c.read(r, values, <-places)
	c.validate(r)
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}
