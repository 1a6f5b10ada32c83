package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Whatever the file holds, Parse returns either a configuration or errors that
// point into it, and the same ones each time.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "../lb.toml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if (c == nil) == (err == nil) {
			t.Fatalf("Parse = %v, %v", c, err)
		}
		if err == nil {
			return
		}
		_, again := Parse("f", data)
		if again == nil || again.Error() != err.Error() {
			t.Errorf("first %v, then %v", err, again)
		}
		lines := bytes.Count(data, []byte("\n")) + 1
		for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
			var e *Error
			if !errors.As(err, &e) || e.Line < 1 || e.Line > lines || e.Text == "" {
				t.Errorf("error %#v of %d lines", err, lines)
			}
		}
	})
}

// In whatever is valid TOML, locate finds every key and every array's elements.
func FuzzLocate(f *testing.F) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "../lb.toml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Add("a.\"b c\".'d' = [[1, 2], [{x = 1979-05-27 07:32:00}]] # [e]\n[[f.g]]\n[f.g.h]\ni = '''\n'x'''''\n[[f.g]]\n")
	f.Fuzz(func(t *testing.T, doc string) {
		at := locate(doc, 1) // of anything, without a crash
		if values, err := decode(doc); err == nil {
			compare(t, "", values, at)
		}
	})
}

func compare(t *testing.T, path string, v any, at *place) {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			if at.key(key) == nil {
				t.Errorf("%s: key %q not located", path, key)
				continue
			}
			compare(t, path+"."+key, inner, at.key(key))
		}
	case []any:
		if len(at.array) != len(v) {
			t.Errorf("%s: %d elements located, want %d", path, len(at.array), len(v))
			return
		}
		for i, e := range v {
			compare(t, path+"[]", e, at.array[i])
		}
	}
}
