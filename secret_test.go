package postrider_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/postrider/postrider"
)

func TestSecretIsNotPrinted(t *testing.T) {
	r := postrider.Route{Username: "u", Password: "hunter2"}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, v := range []any{r, &r, r.Password} {
			if s := fmt.Sprintf(format, v); strings.Contains(s, "hunter2") {
				t.Errorf("%s prints %s", format, s)
			}
		}
	}
}
