package config

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// finish reports the keys that no method was called for.
func (t *table) finish() {
	var unknown []string
	for key := range t.values {
		if !slices.Contains(t.known, key) {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	for _, key := range unknown {
		t.report.add(t.where.LineOf(key), message(t.context, fmt.Sprintf("%q", key), nil, t.advice(key)))
	}
}

// advice says what the unknown key may have been meant to be.
func (t *table) advice(key string) string {
	return fmt.Sprintf("unknown key (%s)", Suggest(key, t.known))
}

// Suggest says what an unknown word may have been meant to be: "did you mean
// weight?" if one of the known ones is near, else "want" and all of them.
func Suggest(word string, known []string) string {
	best, least := "", math.MaxInt
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	if least <= 1+len(word)/4 {
		return fmt.Sprintf("did you mean %s?", best)
	}
	return "want " + list(slices.Sorted(slices.Values(known)), "or")
}

// distance returns how many letters have to be put in, taken out or changed to
// make a into b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// list joins words as a sentence does: a, b or c.
func list[S ~string](words []S, last string) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			b.WriteString(" " + last + " ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}
