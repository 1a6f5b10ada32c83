package keepalived

import "strings"

// A token is a word or a brace.
type token struct {
	text   string
	quoted bool // no brace, whatever it looks like
}

func (t token) is(brace string) bool { return !t.quoted && t.text == brace }

// uncomment cuts off a comment, which begins with ! or # anywhere but in double
// quotes.
func uncomment(line string) string {
	quoted := false
	for i := range len(line) {
		switch c := line[i]; {
		case c == '"':
			quoted = !quoted
		case (c == '#' || c == '!') && !quoted:
			return line[:i]
		}
	}
	return line
}

// tokens splits a line into words and braces. It reports false if a double quote
// is not closed.
func tokens(line string) (all []token, closed bool) {
	for {
		line = strings.TrimLeft(line, " \t\r\n\v\f\x00")
		if line == "" {
			return all, true
		}
		switch c := line[0]; {
		case c == '{' || c == '}':
			all = append(all, token{text: line[:1]})
			line = line[1:]
		case c == '"', c == '\'' && strings.Contains(line[1:], "'"):
			text, rest, ok := strings.Cut(line[1:], line[:1])
			if !ok {
				return all, false
			}
			all = append(all, token{text, true})
			line = rest
		default:
			n := wordLen(line)
			all = append(all, token{text: line[:n]})
			line = line[n:]
		}
	}
}

// wordLen returns the length of the word that line begins with. A brace that ends
// it is not part of it, unless it belongs to one inside: a regex has such.
func wordLen(line string) int {
	end := strings.IndexAny(line, " \t\r\n\v\f\x00\"")
	if end < 0 {
		end = len(line)
	}
	word := line[:end]
	switch open := strings.IndexByte(word, '{'); {
	case open == end-1 && open > 0:
		return open
	case open < 0:
		return len(strings.TrimRight(word, "}"))
	}
	return end
}
