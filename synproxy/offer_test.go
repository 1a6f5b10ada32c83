package synproxy

import "testing"

func TestAnswerSaysNothingThatWasNotOffered(t *testing.T) {
	offer := Offer{MSS: 1460, Window: 64240, Scale: 7, SACK: true, Timestamps: true}
	for _, test := range []struct {
		name    string
		options Options
		want    Offer
	}{
		{"all", Options{MSS: 1460, Scale: 2, SACK: true, Timestamps: true}, offer},
		{"nothing", Options{Scale: NoScale}, Offer{MSS: 1460, Window: 64240, Scale: NoScale}},
		{"scale_zero", Options{Scale: 0}, Offer{MSS: 1460, Window: 64240, Scale: 7}},
		{"sack_only", Options{Scale: NoScale, SACK: true}, Offer{MSS: 1460, Window: 64240, Scale: NoScale, SACK: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := offer.Answer(&test.options); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestLeastOffer(t *testing.T) {
	a := Offer{MSS: 1460, Window: 64240, Scale: 7, SACK: true, Timestamps: true}
	b := Offer{MSS: 8960, Window: 65535, Scale: 0, SACK: true}
	if got, want := a.Least(&b), (Offer{MSS: 1460, Window: 64240, Scale: 0, SACK: true}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	b.Scale = NoScale
	if got := a.Least(&b); got.Scale != NoScale {
		t.Errorf("scale %d of 7 and none, want none", got.Scale)
	}
}

func TestPack(t *testing.T) {
	for _, f := range []Offer{
		{}, {MSS: 1460, Window: 64240, Scale: 7, SACK: true, Timestamps: true}, {MSS: 65535, Window: 65535, Scale: NoScale},
		{SACK: true}, {Timestamps: true},
	} {
		if word := f.Pack(); word == 0 || UnpackOffer(word) != f {
			t.Errorf("%+v: unpacked as %+v", f, UnpackOffer(word))
		}
	}
	o := Options{MSS: 1440, Scale: 14, SACK: true, Timestamps: true}
	for _, is4 := range []bool{true, false} {
		if got := Unpack(o.Pack(is4), is4); got != o {
			t.Errorf("got %+v, want %+v", got, o)
		}
	}
}
