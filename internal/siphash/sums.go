package siphash

// Round returns how many hashes cost no more than n of them do when they are computed at
// once: at least as many, and a multiple of eight if n is above 1.
func Round(n int) int {
	if !inLanes || n <= 1 {
		return n
	}
	return (n + 7) &^ 7
}

// Sums2 sets out[i] to Sum2(a[i], b[i]); a and b are as long as out. Where the processor
// can (AVX2), eight hashes are computed at once, in a third of the time.
func (k *Key) Sums2(out, a, b []uint64) {
	a, b = a[:len(out)], b[:len(out)]
	done := 0
	if eights := len(out) / 8; inLanes && eights > 0 {
		sums2(k, &out[0], &a[0], &b[0], eights)
		done = eights * 8
	}
	for i := done; i < len(out); i++ {
		out[i] = k.Sum2(a[i], b[i])
	}
}

// Sums5 sets out[i] to Sum5 of the i-th word of each of words, which are as long as out,
// likewise.
func (k *Key) Sums5(out []uint64, words *[5][]uint64) {
	a, b, c, d, e := words[0][:len(out)], words[1][:len(out)], words[2][:len(out)], words[3][:len(out)], words[4][:len(out)]
	done := 0
	if eights := len(out) / 8; inLanes && eights > 0 {
		sums5(k, &out[0], &a[0], &b[0], &c[0], &d[0], &e[0], eights)
		done = eights * 8
	}
	for i := done; i < len(out); i++ {
		out[i] = k.Sum5(a[i], b[i], c[i], d[i], e[i])
	}
}
