package config

import (
	"net/netip"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// A text is a string of the file and where it stands.
type text struct {
	s   string
	rng hcl.Range
}

// A Lookup returns the value of an environment variable, as os.LookupEnv does.
type Lookup func(name string) (string, bool)

// context makes the function env("NAME"): secrets and paths from outside the
// file. A variable that is not set is an error and not an empty string.
func (lookup Lookup) context() *hcl.EvalContext {
	env := function.New(&function.Spec{
		Params: []function.Parameter{{Name: "name", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := args[0].AsString()
			if lookup == nil {
				return cty.NilVal, function.NewArgErrorf(0, "there is no environment to look %s up in", name)
			}
			value, ok := lookup(name)
			if !ok {
				return cty.NilVal, function.NewArgErrorf(0, "the environment variable %s is not set", name)
			}
			return cty.StringVal(value), nil
		},
	})
	return &hcl.EvalContext{Functions: map[string]function.Function{"env": env}}
}

// value evaluates an expression; false when it is wrong or null.
func (r *reader) value(e hcl.Expression) (cty.Value, bool) {
	v, found := e.Value(r.eval)
	r.adopt(found)
	if found.HasErrors() {
		return cty.NilVal, false
	}
	if v.IsNull() || !v.IsKnown() {
		r.errorf(e.Range(), "Write a value, or leave the key out.", "no value")
		return cty.NilVal, false
	}
	return v, true
}

// kind is the type of a value as its writer would call it.
func kind(v cty.Value) string {
	switch t := v.Type(); {
	case t.IsTupleType() || t.IsListType():
		return "a list"
	case t.IsObjectType() || t.IsMapType():
		return "an object"
	case t == cty.Bool:
		return "true or false"
	default:
		return "a " + t.FriendlyName()
	}
}

// toText wants an expression to be a string.
func (r *reader) toText(key string, e hcl.Expression) (text, bool) {
	v, ok := r.value(e)
	if !ok {
		return text{}, false
	}
	if v.Type() != cty.String {
		r.errorf(e.Range(), "Put it in quotes.", "%s wants a string, not %s", key, kind(v))
		return text{}, false
	}
	s := v.AsString()
	if strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		r.errorf(e.Range(), "Take the control characters out.", "%s holds a control character", key)
		return text{}, false
	}
	return text{s, e.Range()}, true
}

// text reads a string; false when the key is absent or wrong.
func (b body) text(key string) (text, bool) {
	attr, ok := b.attrs[key]
	if !ok {
		return text{}, false
	}
	return b.toText(key, attr.Expr)
}

// list reads a list of strings; false when the key is absent or no list.
func (b body) list(key string) ([]text, bool) {
	attr, ok := b.attrs[key]
	if !ok {
		return nil, false
	}
	exprs, found := hcl.ExprList(attr.Expr)
	if found.HasErrors() {
		if v, ok := b.value(attr.Expr); ok {
			b.errorf(attr.Expr.Range(), `Write `+key+` = ["...", "..."].`,
				"%s wants a list of strings, not %s", key, kind(v))
		}
		return nil, false
	}
	all := make([]text, 0, len(exprs))
	for _, e := range exprs {
		if t, ok := b.toText("each element of "+key, e); ok {
			all = append(all, t)
		}
	}
	return all, true
}

// flag reads a bool.
func (b body) flag(key string) (bool, hcl.Range) {
	attr, ok := b.attrs[key]
	if !ok {
		return false, hcl.Range{}
	}
	rng := attr.Expr.Range()
	v, ok := b.value(attr.Expr)
	if !ok {
		return false, rng
	}
	if v.Type() != cty.Bool {
		b.errorf(rng, "Write true or false, without quotes.", "%s wants true or false, not %s", key, kind(v))
		return false, rng
	}
	return v.True(), rng
}

// count reads a whole number of at least low and at most high into to.
func (b body) count(key string, low, high int64, to *int) {
	attr, ok := b.attrs[key]
	if !ok {
		return
	}
	v, ok := b.value(attr.Expr)
	if !ok {
		return
	}
	rng := attr.Expr.Range()
	if v.Type() != cty.Number {
		b.errorf(rng, "Write digits, without quotes.", "%s wants a number, not %s", key, kind(v))
		return
	}
	n, _ := v.AsBigFloat().Int64()
	if f := v.AsBigFloat(); !f.IsInt() || n < low || n > high || f.Sign() < 0 && low >= 0 {
		b.errorf(rng, sprintRange(low, high), "%s cannot be %s", key, f.Text('f', -1))
		return
	}
	*to = int(n)
}

// duration reads one duration into to.
func (b body) duration(key string, to *time.Duration) {
	if t, ok := b.text(key); ok {
		if d, ok := b.toDuration(key, t); ok {
			*to = d
		}
	}
}

func (r *reader) toDuration(key string, t text) (time.Duration, bool) {
	d, err := ParseDuration(t.s)
	switch err {
	case nil:
		return d, true
	case errNegative:
		r.errorf(t.rng, "Take the minus sign away.", "%s cannot be negative", key)
	case errRange:
		r.errorf(t.rng, durationHelp, "%s is too long: %q", key, t.s)
	default:
		r.errorf(t.rng, durationHelp, "%s is no duration: %q", key, t.s)
	}
	return 0, false
}

// size reads a size of at least low octets into to. A plain number is octets.
func (b body) size(key string, low int64, to *int64) {
	attr, ok := b.attrs[key]
	if !ok {
		return
	}
	v, ok := b.value(attr.Expr)
	if !ok {
		return
	}
	rng, s := attr.Expr.Range(), ""
	switch v.Type() {
	case cty.String:
		s = v.AsString()
	case cty.Number:
		s = v.AsBigFloat().Text('f', -1)
	default:
		b.errorf(rng, sizeHelp, "%s wants a size, not %s", key, kind(v))
		return
	}
	n, err := ParseSize(s)
	switch {
	case err == errNegative:
		b.errorf(rng, "Take the minus sign away.", "%s cannot be negative", key)
	case err != nil:
		b.errorf(rng, sizeHelp, "%s is no size: %q", key, s)
	case n < low:
		b.errorf(rng, "Write at least "+FormatSize(low)+".", "%s is too small: %s", key, FormatSize(n))
	default:
		*to = n
	}
}

// mappedBits is how long the prefix of all of IPv4 in IPv6 is, ::ffff:0:0/96.
const mappedBits = 96

// networks reads a list of networks in CIDR form, and says where each stands; an
// address alone is a network of one. One of IPv4 that is written as IPv6 becomes what
// it is: clients have no such addresses, and it would hold none of them.
func (b body) networks(key string, to *[]netip.Prefix) (places []hcl.Range) {
	list, ok := b.list(key)
	if !ok {
		return nil
	}
	*to = nil
	for _, t := range list {
		if addr, err := netip.ParseAddr(t.s); err == nil && addr.Zone() == "" {
			addr = addr.Unmap()
			*to, places = append(*to, netip.PrefixFrom(addr, addr.BitLen())), append(places, t.rng)
			continue
		}
		p, err := netip.ParsePrefix(t.s)
		mapped := err == nil && p.Addr().Is4In6()
		if mapped && p.Bits() >= mappedBits {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
		}
		switch {
		case err != nil:
			b.errorf(t.rng, `Write an address and its prefix length, such as "192.0.2.0/24" or "2001:db8::/32".`,
				"%s: %q is no network", key, t.s)
		case mapped && p.Addr().Is6():
			b.errorf(t.rng, `Write the network of IPv4 itself, such as "192.0.2.0/24", or "0.0.0.0/0" for all of them.`,
				"%s: %q is partly IPv4: what begins with ::ffff: has a prefix length of %d to 128", key, t.s, mappedBits)
		case p != p.Masked():
			b.errorf(t.rng, `Did you mean "`+p.Masked().String()+`", or the one address "`+p.Addr().String()+`"?`,
				"%s: %q has bits beyond its prefix length", key, t.s)
		default:
			*to, places = append(*to, p), append(places, t.rng)
		}
	}
	return places
}
