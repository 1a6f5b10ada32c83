package config

import "slices"

// A Where says where in the file a table and its keys stand, for messages. The
// zero Where belongs to what no file holds, and is line 0.
type Where struct {
	Line  int             // of the table's header
	keys  []keyLine       // of each key that is there
	moved int             // lines since keys was read
	bad   map[string]bool // keys whose value could not be read, already reported
}

// A keyLine is a key of a table and the line in which it was read.
type keyLine struct {
	key  string
	line int
}

// find returns where keys has key, or -1. A table has few keys.
func (w *Where) find(key string) int {
	return slices.IndexFunc(w.keys, func(k keyLine) bool { return k.key == key })
}

// LineOf returns the line of key, or of the table if it has no such key.
func (w *Where) LineOf(key string) int {
	if i := w.find(key); i >= 0 {
		return w.keys[i].line + w.moved
	}
	return w.Line
}

// move notes that all stands so many lines further down.
func (w *Where) move(by int) { w.Line, w.moved = w.Line+by, w.moved+by }

// spoil notes that the value of key could not be read.
func (w *Where) spoil(key string) {
	if w.bad == nil {
		w.bad = make(map[string]bool)
	}
	w.bad[key] = true
}

// has reports whether the file gives key.
func (w *Where) has(key string) bool { return w.find(key) >= 0 }

// forget drops what the file said of some keys.
func (w *Where) forget(keys ...string) {
	w.keys = slices.DeleteFunc(slices.Clone(w.keys), func(k keyLine) bool { return slices.Contains(keys, k.key) })
}
