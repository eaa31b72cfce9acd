package vfs

import "testing"

func TestKernelTells(t *testing.T) {
	for release, want := range map[string]bool{
		"5.7.19": false, "5.8.0-generic": true, "5.10": true, "6.18.44-fc": true, "4.19.0-27-amd64": false, "10.0": true, "": false, "next": false, "6": false,
	} {
		if got := tells(release); got != want {
			t.Errorf("%q: %v, want %v", release, got, want)
		}
	}
	if release() == "" {
		t.Error("the kernel does not say what it is")
	}
}
