package node

import (
	"runtime/debug"
	"testing"
)

// RFC 5321 7.5: what we are called has the version, whether we are the program or a part
// of another.
func TestSoftwareHasItsVersion(t *testing.T) {
	const module, other = "github.com/postrider/postrider", "example.org/other"
	for _, tt := range []struct {
		info debug.BuildInfo
		want string
	}{
		{debug.BuildInfo{Main: debug.Module{Path: module, Version: "v1.2.3"}}, "Postrider v1.2.3"},
		{debug.BuildInfo{Main: debug.Module{Path: module, Version: "(devel)"}}, "Postrider"},
		{debug.BuildInfo{Main: debug.Module{Path: other, Version: "v9"}}, "Postrider"},
		{debug.BuildInfo{Main: debug.Module{Path: other, Version: "v9"}, Deps: []*debug.Module{{Path: other, Version: "v8"}, {Path: module, Version: "v1.2.3"}}}, "Postrider v1.2.3"},
	} {
		if got := titled(&tt.info, true); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	if got := titled(nil, false); got != "Postrider" {
		t.Errorf("without a build: %q", got)
	}
}
