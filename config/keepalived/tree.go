package keepalived

// A statement is a keyword with its arguments, and the block that follows it.
type statement struct {
	at    pos
	words []string     // at least one
	open  bool         // it has a block
	block []*statement // what is in it
}

func (s *statement) key() string    { return s.words[0] }
func (s *statement) args() []string { return s.words[1:] }

// A builder makes statements of lines of tokens. A block may begin on the line of
// its keyword or on the next one.
type builder struct {
	*report
	root  statement
	stack []*statement // the blocks that are open, the root first
}

func newBuilder(r *report) *builder {
	b := &builder{report: r}
	b.stack = []*statement{&b.root}
	return b
}

func (b *builder) top() *statement { return b.stack[len(b.stack)-1] }

// add takes the tokens of one line.
func (b *builder) add(line []token, at pos) {
	var current *statement
	for _, t := range line {
		switch {
		case t.is("{"):
			b.opens(current, at)
			current = nil
		case t.is("}"):
			if len(b.stack) == 1 {
				b.fail(at, "}: closes nothing (remove it, or look for a { that is missing above)")
			} else {
				b.stack = b.stack[:len(b.stack)-1]
			}
			current = nil
		case current == nil:
			current = &statement{at: at, words: []string{t.text}}
			b.top().block = append(b.top().block, current)
		default:
			current.words = append(current.words, t.text)
		}
	}
}

// opens opens the block of s, or of the statement before if the line has none.
func (b *builder) opens(s *statement, at pos) {
	if before := b.top().block; s == nil && len(before) > 0 {
		s = before[len(before)-1]
	}
	if s == nil || s.open {
		b.fail(at, "{: opens a block without a name (write what it is in front of it)")
		s = &statement{at: at, words: []string{"{"}} // not in the tree: what is in it is reported with it
	}
	s.open = true
	b.stack = append(b.stack, s)
	if len(b.stack) == maxDepth {
		b.fail(at, "{: more than %d blocks in each other (close some)", maxDepth)
	}
}

// end returns the statements of the outermost level.
func (b *builder) end() []*statement {
	for _, s := range b.stack[1:] {
		b.fail(s.at, "%s: its block is not closed (add a })", s.key())
	}
	return b.root.block
}
