package config

import (
	"errors"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
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
	values, err := decode(string(data))
	if err != nil {
		r.add(mistake(err))
		return nil, r.err()
	}
	c := &Config{File: name}
	c.read(r, values, locate(string(data), 1))
	c.validate(r)
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// decode returns the values of a TOML document.
func decode(doc string) (values map[string]any, err error) {
	const byteOrderMark = "\ufeff" // some editors begin a file with it
	err = toml.Unmarshal([]byte(strings.TrimPrefix(doc, byteOrderMark)), &values)
	return values, err
}

// mistake returns the line and text of an error of decode.
func mistake(err error) (line int, text string) {
	line = 1
	var syntax *toml.DecodeError
	if errors.As(err, &syntax) {
		line, _ = syntax.Position()
	}
	return line, "not valid TOML: " + strings.TrimPrefix(err.Error(), "toml: ")
}
