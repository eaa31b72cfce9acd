package main

import "testing"

// Both libraries are measured with the same messages, and all of them arrive.
func TestCases(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	for _, k := range cases {
		if k.allocs {
			r, err := k.run(1, 50)
			if err != nil || r.Median["go-smtp"].Allocs < 1 || r.Median["postrider"].Allocs < 1 {
				t.Errorf("%s: %+v, %v", k.what, r, err)
			}
		}
	}
}

func TestYes(t *testing.T) {
	for _, cut := range []int{1, 2, 3, 7, 1000} {
		y := newYes(true)
		_, _ = y.Write(hello)
		for range 2 {
			for _, step := range steps(false) {
				for len(step) > 0 {
					n := min(cut, len(step))
					_, _ = y.Write(step[:n])
					step = step[n:]
				}
			}
		}
		if y.Taken != 2 || y.inData {
			t.Errorf("cut at %d: %d messages, in data %v", cut, y.Taken, y.inData)
		}
	}
}
