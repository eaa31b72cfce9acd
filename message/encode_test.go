package message

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strings"
	"testing"
	"testing/iotest"
)

func encodeAll(t *testing.T, in string, to Shape) string {
	t.Helper()
	s, err := Survey(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Encodable(to); err != nil {
		t.Fatalf("%q: %v", in, err)
	}
	out, err := io.ReadAll(s.Encode(strings.NewReader(in), to))
	if err != nil {
		t.Fatal(err)
	}
	again, err := io.ReadAll(s.Encode(iotest.OneByteReader(strings.NewReader(in)), to))
	if err != nil || string(again) != string(out) {
		t.Errorf("octet by octet it becomes %q (%v), and at once %q", again, err, out)
	}
	return string(out)
}

// An encoding is a message and what it becomes in a shape; "": it stays as it is.
type encoding struct {
	name     string
	to       Shape
	in, want string
}

func TestEncode(t *testing.T) {
	long := strings.Repeat("x", 999)
	checkEncode(t, []encoding{
		{"what fits stays", Shape7Bit, "Subject: x\r\n\r\nbody\r\n", ""},
		{"of 8 bit too", Shape8Bit, "Content-Transfer-Encoding: 8bit\r\n\r\nb\xc3\xb6dy\r\n", ""},
		{"a text", Shape7Bit,
			"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nSubject: x\r\n\r\nb\xc3\xb6dy = 1 \r\n.\r\n",
			"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nSubject: x\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nb=C3=B6dy =3D 1=20\r\n.\r\n"},
		{"no MIME at all", Shape7Bit, "Subject: x\r\n\r\n\xf6\r\n",
			"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=F6\r\n"},
		{"an image", Shape7Bit, "MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\r\x01\n",
			"MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAA0BCg==\r\n"},
		{"a long line", Shape8Bit, "MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\n" + long + "\r\n",
			"MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
				strings.Repeat(strings.Repeat("x", 75)+"=\r\n", 13) + strings.Repeat("x", 24) + "\r\n"},
		{"no end of line at the end", Shape8Bit, "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\na\nb",
			"MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=0Ab=\r\n"},
		{"binary that is none", Shape8Bit, "MIME-Version: 1.0\r\nContent-Transfer-Encoding: binary\r\n\r\n\xf6\r\n",
			"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xf6\r\n"},
		{"parts", Shape7Bit,
			"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\npre\xf6\r\n--b\r\n\r\nplain\r\n--b\r\nContent-Type: text/html\r\n\r\n\xf6\r\n--b\r\nContent-Type: application/x\r\n\r\n\xf6\r\n--b--\r\nepi\r\n",
			"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 7bit\r\n\r\npre?\r\n--b\r\n\r\nplain\r\n--b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=F6\r\n--b\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\n9g==\r\n--b--\r\nepi\r\n"},
		{"no line of ours looks like a boundary", Shape7Bit,
			"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + long[:75] + "--b\r\n\xf6\r\n--b--\r\n",
			"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + long[:75] +
				"=\r\n=2D-b\r\n=F6\r\n--b--\r\n"},
		{"a message in a part", Shape7Bit,
			"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: y\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n\xf6\r\n--b--\r\n",
			"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\nSubject: y\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=F6\r\n--b--\r\n"},
		{"signed, and fits", Shape7Bit,
			"MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: 8bit\r\n\r\nplain\r\n--b\r\n\r\nsig\r\n--b--\r\n", ""},
		{"a DKIM-Signature keeps nobody from it", Shape7Bit,
			"DKIM-Signature: v=1\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n\xf6\r\n",
			"DKIM-Signature: v=1\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=F6\r\n"},
	})
}

// What MIME allows in more than one form, and what it allows in one alone.
func TestEncodeForms(t *testing.T) {
	checkEncode(t, []encoding{
		// RFC 2046 5.1.5: "in a digest, the default Content-Type value for a body part is
		// changed from "text/plain" to "message/rfc822"".
		{"a message in a digest", Shape7Bit, "MIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: y\r\n\r\n\xf6\r\n--b--\r\n",
			"MIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: y\r\nMIME-Version: 1.0\r\n" +
				"Content-Type: text/plain; charset=unknown-8bit\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=F6\r\n--b--\r\n"},
		// RFC 2045 5.1, 6.1: neither the type nor the encoding has a case.
		{"in capitals", Shape7Bit, "MIME-Version: 1.0\r\nContent-Type: TEXT/HTML; charset=\r\nContent-Transfer-Encoding: 8BIT\r\n\r\n\xf6\r\n",
			"MIME-Version: 1.0\r\nContent-Type: TEXT/HTML; charset=\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=F6\r\n"},
		// RFC 2046 5.1.1: delimiter := "--" boundary transport-padding, *LWSP-char.
		{"blanks behind the boundary", Shape7Bit, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\t\r\n\r\n\xf6\r\n--b-- \t\r\n",
			"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\t\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=F6\r\n--b-- \t\r\n"},
		// RFC 2045 6.7 (3): neither a space nor a tab stands at the end of an encoded line.
		{"a tab at the end of a line", Shape7Bit, "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n\xf6\t\r\n\tx \t\r\n",
			"MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=F6=09\r\n\tx =09\r\n"},
		// RFC 5322 2.2.3: a tab folds as a space does; 4.5.8: blanks stood before the colon once.
		{"folded by a tab", Shape7Bit, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n\tboundary=b\r\n\r\n--b\r\n\r\n\xf6\r\n--b--\r\n",
			"MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n\tboundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=F6\r\n--b--\r\n"},
		{"a blank before the colon", Shape7Bit, "MIME-Version: 1.0\r\nContent-Type : image/png\r\n\r\n\xff\xff\xff",
			"MIME-Version: 1.0\r\nContent-Type : image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n////\r\n"},
		// RFC 2046 5.1.1: a delimiter is a line, which CRLF ends; what is before the first is no
		// content, and must not hold what the way cannot carry.
		{"a bare LF behind the boundary", Shape8Bit, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\ny\r\n--b--\r\n",
			"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nx\r\n--b=0Ay\r\n--b--\r\n"},
		{"a bare CR before the first part", Shape8Bit, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\np\rre\xf6\r\n--b\r\n\r\nx\r\n--b--\r\n",
			"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\np?re\xf6\r\n--b\r\n\r\nx\r\n--b--\r\n"},
		// RFC 2045 6.8: "lines of no more than 76 characters each".
		{"base64 of several lines", Shape7Bit, "MIME-Version: 1.0\r\nContent-Type: image/png\r\n\r\n" + strings.Repeat("\xff", 120),
			"MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("/", 76) + "\r\n" + strings.Repeat("/", 76) + "\r\n////////\r\n"},
	})
}

// checkEncode encodes what there is.
func checkEncode(t *testing.T, list []encoding) {
	t.Helper()
	for _, c := range list {
		t.Run(c.name, func(t *testing.T) {
			want := c.want
			if want == "" {
				want = c.in
			}
			got := encodeAll(t, c.in, c.to)
			if got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			if shapeOf([]byte(got)) > c.to {
				t.Errorf("%q is not %s", got, c.to)
			}
		})
	}
}

func TestEncodable(t *testing.T) {
	const mixed = "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n"
	for _, c := range []struct {
		name, in string
		to       Shape
		want     error
	}{
		{"header", "Subject: \xc3\xb6\r\n\r\n\r\n", Shape7Bit, ErrHeader},
		{"header, to 8 bit", "Subject: \xc3\xb6\r\n\r\n\r\n", Shape8Bit, nil},
		{"header of a part", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: \xc3\xb6\r\n\r\n--b--\r\n", Shape7Bit, ErrHeader},
		{"header of a message in a part", "Content-Type: message/rfc822\r\n\r\nX: \xc3\xb6\r\n\r\n", Shape7Bit, ErrHeader},
		{"signed", mixed + "\r\n\xf6\r\n--b\r\n\r\nsig\r\n--b--\r\n", Shape7Bit, ErrSigned},
		{"signed further in", mixed + "Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n\xf6\r\n--c--\r\n--b\r\n\r\nsig\r\n--b--\r\n", Shape7Bit, ErrSigned},
		{"between the parts of what is signed", mixed + "Content-Type: multipart/mixed; boundary=c\r\n\r\npre\xf6\r\n--c\r\n\r\nx\r\n--c--\r\n--b\r\n\r\nsig\r\n--b--\r\n", Shape7Bit, ErrSigned},
		{"the same, to 8 bit", mixed + "Content-Type: multipart/mixed; boundary=c\r\n\r\npre\xf6\r\n--c\r\n\r\nx\r\n--c--\r\n--b\r\n\r\nsig\r\n--b--\r\n", Shape8Bit, nil},
		{"before what is signed", strings.Replace(mixed, "--b", "pre\xf6\r\n--b", 1) + "\r\nx\r\n--b\r\n\r\nsig\r\n--b--\r\n", Shape7Bit, nil},
		{"signed, to 8 bit", mixed + "\r\n\xf6\r\n--b\r\n\r\nsig\r\n--b--\r\n", Shape8Bit, nil},
		{"encoded already", "Content-Transfer-Encoding: base64\r\n\r\n\xf6\r\n", Shape7Bit, ErrStructure},
		{"two encodings, of which nobody knows the right one", "Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xf6\r\n", Shape7Bit, ErrStructure},
		{"two types", "Content-Type: text/plain\r\nContent-Type: image/png\r\n\r\n\xf6\r\n", Shape7Bit, ErrStructure},
		{"an encoding that nobody knows", "Content-Transfer-Encoding: x-y\r\n\r\n\xf6\r\n", Shape7Bit, ErrStructure},
		{"no boundary", "Content-Type: multipart/mixed\r\n\r\n\xf6\r\n", Shape7Bit, ErrStructure},
		{"an encoded multipart", "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64\r\n\r\n\xf6\r\n", Shape7Bit, ErrStructure},
		{"partial", "Content-Type: message/partial; id=x; number=1\r\n\r\n\xf6\r\n", Shape7Bit, ErrStructure},
		{"a status report", "Content-Type: message/delivery-status\r\n\r\nX: \xf6\r\n", Shape7Bit, ErrStructure},
		{"an international one", "Content-Type: message/global-delivery-status\r\n\r\nX: \xc3\xb6\r\n", Shape7Bit, nil},
		{"a header that has no lines", "Subject: x\nTo: y\r\n\r\n", Shape8Bit, ErrStructure},
		{"a body without an empty line", "Subject: x\r\nno field \xf6\r\n", Shape7Bit, ErrStructure},
		{"a body without an empty line that fits", "Subject: x\r\nno field\r\n", Shape7Bit, nil},
		{"as deep as may be", nested("\r\n\xf6\r\n", depthMax, "b"), Shape7Bit, nil},
		{"too deep", nested("\r\n\xf6\r\n", depthMax+1, "b"), Shape7Bit, ErrStructure},
		{"nothing", "", Shape7Bit, nil},
	} {
		s, err := Survey(strings.NewReader(c.in))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Encodable(c.to); !errors.Is(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// RFC 6531 3.2: "internationalized mail headers [...] at any level within its MIME structure": in
// the first header section as in the last.
func TestHeaderEightBitAtAnyLevel(t *testing.T) {
	const eight, plain = "X: \xc3\xb6\r\n", "X: y\r\n"
	for _, c := range []struct {
		top, first, last string
		want             bool
	}{{plain, plain, plain, false}, {eight, plain, plain, true}, {plain, eight, plain, true}, {plain, plain, eight, true}} {
		s, err := Survey(strings.NewReader(c.top + multipartOf("mixed", "b", c.first+"\r\nx\xf6", c.last+"\r\nx")))
		if err != nil || s.HeaderEightBit() != c.want {
			t.Errorf("%+v: %v, %v", c, !c.want, err)
		}
	}
}

// nested is an entity within so many others, two multiparts and a message by turns; their
// boundaries begin with a name.
func nested(inner string, levels int, name string) string {
	for i := range levels {
		if i%3 == 2 {
			inner = "Content-Type: message/rfc822\r\n\r\n" + inner
			continue
		}
		inner = multipartOf("mixed", fmt.Sprint(name, levels-i), inner)
	}
	return inner
}

// multipartOf is a multipart of this kind.
func multipartOf(kind, boundary string, parts ...string) string {
	s := "Content-Type: multipart/" + kind + "; boundary=" + boundary + "\r\n\r\n"
	for _, p := range parts {
		s += "--" + boundary + "\r\n" + p + "\r\n"
	}
	return s + "--" + boundary + "--\r\n"
}

// RFC 6152 3: a conversion "must cause no loss of information", and the signature of a
// multipart/signed is some: it is over all that is in the first part, be it ever so deep.
// What is beside it, or around it, is not signed, and is encoded.
func TestSignedAtAnyDepth(t *testing.T) {
	const eight, plain = "\r\n\xf6\r\n", "\r\nplain\r\n"
	for _, out := range []int{0, 1, 2, 3, 5, 20} {
		for _, in := range []int{0, 1, 2, 3, 4, 5, 6, 10, 50} {
			for _, c := range []struct {
				name, in string
				want     error
			}{
				{"signed", nested(multipartOf("signed", "s", nested(eight, in, "i"), plain), out, "o"), ErrSigned},
				{"not signed", nested(multipartOf("mixed", "s", nested(eight, in, "i"), plain), out, "o"), nil},
				{"beside what is signed", nested(multipartOf("mixed", "m", multipartOf("signed", "s", plain, plain), nested(eight, in, "i")), out, "o"), nil},
			} {
				s, err := Survey(strings.NewReader(c.in))
				if err != nil {
					t.Fatal(err)
				}
				if got := s.Encodable(Shape7Bit); !errors.Is(got, c.want) {
					t.Errorf("%s, %d levels in and %d levels out: %v, want %v", c.name, in, out, got, c.want)
				}
				if got := s.Encodable(Shape8Bit); got != nil {
					t.Errorf("%s, %d levels in and %d levels out, to a host with 8BITMIME: %v", c.name, in, out, got)
				}
			}
		}
	}
}

// What is kept of a message does not grow with it: a delimiter has five octets.
func TestSurveyOfMany(t *testing.T) {
	const head, part = "Content-Type: multipart/mixed; boundary=b\r\n\r\n", "--b\r\n\r\n"
	for _, c := range []struct {
		parts int
		last  string
		want  error
		head8 bool
	}{
		{entitiesMax - 1, "", nil, false},
		{entitiesMax, "", ErrStructure, false},
		{5 * entitiesMax, "--b\r\nX: \xc3\xb6\r\n\r\n", ErrStructure, true},
	} {
		s, err := Survey(strings.NewReader(head + strings.Repeat(part, c.parts) + c.last + "\xf6\r\n"))
		if err != nil || len(s.entities) > entitiesMax || s.HeaderEightBit() != c.head8 {
			t.Errorf("%d parts: %d entities, %v, %v", c.parts, len(s.entities), s.HeaderEightBit(), err)
		}
		if got := s.Encodable(Shape7Bit); !errors.Is(got, c.want) {
			t.Errorf("%d parts: %v, want %v", c.parts, got, c.want)
		}
	}
}

// A body that ends amid the end of a line, in a CR that no LF follows, goes over no DATA as
// it is: RFC 5321 2.3.8 lets CR and LF stand only together. So it is encoded, and the CR comes
// out of that as it was.
func TestBodyThatEndsInCR(t *testing.T) {
	for body, want := range map[string]Shape{"x": Shape7Bit, "x\r\n": Shape7Bit, "x\r": ShapeBinary, "\r": ShapeBinary, "x\r\n\r": ShapeBinary} {
		s, err := Survey(strings.NewReader("Subject: x\r\n\r\n" + body))
		if err != nil || len(s.entities) != 1 || s.entities[0].shape != want {
			t.Errorf("%q: %+v, %v; want %v", body, s.entities, err, want)
		}
	}
	if got := encodeAll(t, "Subject: x\r\n\r\nx\r", Shape7Bit); !strings.HasSuffix(got, "\r\n\r\nx=0D=\r\n") {
		t.Errorf("%q", got)
	}
}

func TestSurveyFails(t *testing.T) {
	want := errors.New("x")
	if _, err := Survey(iotest.ErrReader(want)); !errors.Is(err, want) {
		t.Errorf("error %v", err)
	}
	s, _ := Survey(strings.NewReader("A: b\r\n\r\n"))
	if _, err := io.ReadAll(s.Encode(iotest.ErrReader(want), Shape7Bit)); !errors.Is(err, want) {
		t.Errorf("error %v", err)
	}
}

// leaves is what net/mail and mime/multipart, which are others' readers, find in a
// message, decoded.
func leaves(header textproto.MIMEHeader, body io.Reader, depth int) (all []string, ok bool) {
	kind, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil && header.Get("Content-Type") != "" || depth > 5 {
		return nil, false
	}
	switch {
	case strings.HasPrefix(kind, "multipart/"):
		r := multipart.NewReader(body, params["boundary"])
		for {
			p, err := r.NextRawPart()
			if err == io.EOF {
				return all, true
			}
			if err != nil {
				return nil, false
			}
			sub, ok := leaves(p.Header, p, depth+1)
			if !ok {
				return nil, false
			}
			all = append(append(all, "("), append(sub, ")")...)
		}
	case kind == "message/rfc822":
		m, err := mail.ReadMessage(body)
		if err != nil {
			return nil, false
		}
		return leaves(textproto.MIMEHeader(m.Header), m.Body, depth+1)
	}
	switch strings.ToLower(header.Get("Content-Transfer-Encoding")) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	b, err := io.ReadAll(body)
	return []string{kind + ":" + string(b)}, err == nil
}

// FuzzEncode: what is encoded is of the shape that was asked for, has the same
// structure for another survey, and is not encoded twice; and where another reader of
// MIME understands the message, it finds the same contents in both.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npre\r\n--b\r\n\r\n\xf6 \r\n--b\r\nContent-Type: a/b\r\n\r\n\x00\r\n--b--\r\n"), false)
	f.Add([]byte("Content-Type: message/rfc822\r\n\r\nA: b\r\n\r\nx\ny\r\n"), true)
	f.Add([]byte("Content-Type: text/plain\r\n\r\n"+strings.Repeat("-\xf6- ", 300)+"\r\n--b"), true)
	f.Fuzz(func(t *testing.T, in []byte, eight bool) {
		to := Shape7Bit
		if eight {
			to = Shape8Bit
		}
		s, err := Survey(bytes.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		if s.Encodable(to) != nil {
			return
		}
		out, err := io.ReadAll(s.Encode(bytes.NewReader(in), to))
		if err != nil {
			t.Fatal(err)
		}
		again, err := Survey(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		if len(again.entities) != len(s.entities) {
			t.Fatalf("%q of %d entities became %q of %d", in, len(s.entities), out, len(again.entities))
		}
		for i := range again.entities {
			if e := &again.entities[i]; e.changes(to) && !e.signed {
				t.Fatalf("%q became %q, whose entity %d does not fit", in, out, i)
			}
		}
		if to == Shape7Bit && hasEightBit(out) {
			t.Fatalf("%q became %q", in, out)
		}
		if bytes.Contains(bytes.ReplaceAll(in, []byte("\r\n"), nil), []byte("\n")) {
			return // others take a line feed for the end of a line
		}
		before, err := mail.ReadMessage(bytes.NewReader(in))
		if err != nil {
			return
		}
		want, ok := leaves(textproto.MIMEHeader(before.Header), before.Body, 0)
		if !ok {
			return
		}
		after, err := mail.ReadMessage(bytes.NewReader(out))
		if err != nil {
			t.Fatalf("%q became %q: %v", in, out, err)
		}
		got, ok := leaves(textproto.MIMEHeader(after.Header), after.Body, 0)
		if a, b := strings.Join(got, "\x00"), strings.Join(want, "\x00"); !ok || strings.ReplaceAll(a, "text/plain", "") != strings.ReplaceAll(b, "text/plain", "") {
			t.Fatalf("%q became %q: %q, want %q", in, out, a, b)
		}
	})
}
