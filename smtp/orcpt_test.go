package smtp

import "testing"

// RFC 6533 3: in an ORCPT "+" and "=" are not allowed as they are, also where UTF-8 is.
func TestUnitextHasNoPlus(t *testing.T) {
	for in, ok := range map[string]bool{
		`utf-8;a\x{2B}b@c`: true, "utf-8;ü@c": true, "utf-8;a+b@c": false, "utf-8;ü=b@c": false, "utf-8;a+2Bb@c": false,
		// Nor is a control character, which the report would have in a field.
		`utf-8;a\x{A0}b@c`: true, `utf-8;a\x{85}b@c`: false, `utf-8;a\x{7F}b@c`: false, `utf-8;a\x{0A}b@c`: false,
	} {
		if _, _, no := ParseRcpt("TO:<a@b> ORCPT="+in, allExt); (no == nil) != ok {
			t.Errorf("%s: %v", in, no)
		}
	}
}
