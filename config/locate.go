package config

import (
	"strconv"
	"strings"
)

// A place says where a value of a TOML document stands: the line of its key or
// header, and the places inside it. The TOML package tells lines only for the
// errors that it finds itself, and we have more to complain about.
type place struct {
	line  int
	table []keyPlace // of a table, in the order of the file
	array []*place   // of an array, also of tables
}

// A keyPlace is a key of a table and where its value stands.
type keyPlace struct {
	key string
	*place
}

// key returns the place of a key in p, or nil.
func (p *place) key(key string) *place {
	for _, k := range p.table {
		if k.key == key {
			return k.place
		}
	}
	return nil
}

// locate returns the places of all keys of a document that is valid TOML and begins
// in a line. What it does not understand it leaves out; a reader then falls back to
// the line of what surrounds it.
func locate(doc string, line int) *place {
	l := locator{doc: doc, line: line}
	root := l.place(line)
	current := root
	for l.blank(); l.rest() != ""; l.blank() {
		switch line := l.line; {
		case l.eat("[["):
			current = l.element(l.inside(root, line), line)
			l.eat("]]")
		case l.eat("["):
			current = l.inside(root, line).last()
			current.line = line
			l.eat("]")
		default:
			l.assignment(current)
		}
	}
	return root
}

// last returns p, or its latest element if it is an array of tables: that is the
// one which TOML lets further headers extend.
func (p *place) last() *place {
	if len(p.array) > 0 {
		return p.array[len(p.array)-1]
	}
	return p
}

// A locator walks over a document. Every method but rest and those that make places
// moves it forward.
type locator struct {
	doc  string
	at   int
	line int
	room []place // for what is to be located yet: a long file has many, and one has few
}

// place returns a new place.
func (l *locator) place(line int) *place {
	if len(l.room) == 0 {
		l.room = make([]place, 32)
	}
	p := &l.room[0]
	l.room, p.line = l.room[1:], line
	return p
}

// element adds an element to p.
func (l *locator) element(p *place, line int) *place {
	e := l.place(line)
	p.array = append(p.array, e)
	return e
}

// inside moves over a key and returns its place in p, made if it is new.
func (l *locator) inside(p *place, line int) *place {
	for more := true; more; more = l.dot() {
		p = p.last()
		part := l.part()
		next := p.key(part)
		if next == nil {
			next = l.place(line)
			p.table = append(p.table, keyPlace{part, next})
		}
		p = next
	}
	return p
}

func (l *locator) rest() string { return l.doc[l.at:] }

// skip moves over n bytes, counting lines.
func (l *locator) skip(n int) {
	n = min(n, len(l.rest()))
	l.line += strings.Count(l.rest()[:n], "\n")
	l.at += n
}

// eat moves over token if it comes next.
func (l *locator) eat(token string) bool {
	if !strings.HasPrefix(l.rest(), token) {
		return false
	}
	l.skip(len(token))
	return true
}

// until moves to the first byte that is in chars and returns what it passed.
func (l *locator) until(chars string) string {
	rest := l.rest()
	n := strings.IndexAny(rest, chars)
	if n < 0 {
		n = len(rest)
	}
	l.skip(n)
	return rest[:n]
}

// blank moves over white space, line ends and comments.
func (l *locator) blank() {
	for {
		rest := l.rest()
		l.skip(len(rest) - len(strings.TrimLeft(rest, " \t\r\n")))
		if !strings.HasPrefix(l.rest(), "#") {
			return
		}
		l.until("\n")
	}
}

// part moves over a part of a key, which is all of it unless it is dotted.
func (l *locator) part() string {
	l.blank()
	if rest := l.rest(); strings.HasPrefix(rest, `"`) || strings.HasPrefix(rest, "'") {
		return l.str()
	}
	return l.until(" \t\r\n.=]#\"'")
}

// dot moves over the dot before the next part of a key, if there is one.
func (l *locator) dot() bool {
	l.blank()
	return l.eat(".")
}

// assignment moves over key = value and notes their places in p.
func (l *locator) assignment(p *place) {
	p = l.inside(p, l.line)
	if !l.eat("=") {
		l.skip(1)
		return
	}
	l.value(p)
}

// value moves over a value and notes in p what it contains.
func (l *locator) value(p *place) {
	l.blank()
	switch rest := l.rest(); {
	case strings.HasPrefix(rest, `"`), strings.HasPrefix(rest, "'"):
		l.str()
	case l.eat("["):
		for l.blank(); l.rest() != "" && !l.eat("]"); l.blank() {
			if !l.eat(",") {
				l.value(l.element(p, l.line))
			}
		}
	case l.eat("{"):
		for l.blank(); l.rest() != "" && !l.eat("}"); l.blank() {
			if !l.eat(",") {
				l.assignment(p)
			}
		}
	default:
		if l.until(",]}#\n") == "" {
			l.skip(1)
		}
	}
}

// str moves over a string of any of TOML's four kinds and returns it; escapes
// stay as they are where Go has other ones.
func (l *locator) str() string {
	quote := l.rest()[:1]
	long := strings.Repeat(quote, 3)
	if !l.eat(long) {
		long = quote
		l.skip(1)
	}
	start := l.at
	for l.rest() != "" && !strings.HasPrefix(l.rest(), long) {
		if quote == `"` && l.eat(`\`) {
			l.skip(1)
			continue
		}
		l.skip(1)
	}
	text := l.doc[start:l.at]
	l.eat(long)
	for range 2 { // a long string may end in up to two quotes of its own
		if len(long) == 3 {
			l.eat(quote)
		}
	}
	if quote == `"` {
		if s, err := strconv.Unquote(quote + text + quote); err == nil {
			return s
		}
	}
	return text
}
