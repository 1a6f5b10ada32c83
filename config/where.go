package config

// A Where says where in the file a table and its keys stand, for messages. The
// zero Where belongs to what no file holds, and is line 0.
type Where struct {
	Line  int             // of the table's header
	keys  map[string]int  // line of each key that is there, when they were read
	moved int             // lines since then
	bad   map[string]bool // keys whose value could not be read, already reported
}

// LineOf returns the line of key, or of the table if it has no such key.
func (w *Where) LineOf(key string) int {
	if line, ok := w.keys[key]; ok {
		return line + w.moved
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
func (w *Where) has(key string) bool {
	_, ok := w.keys[key]
	return ok
}
