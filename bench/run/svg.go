package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Sizes of a picture, in its own units.
const (
	picWidth  = 720.0
	picHeight = 400.0
	picLeft   = 70.0
	picRight  = 130.0 // the names of the lines
	picTop    = 40.0
	picBottom = 50.0
)

// lineColours are readable on white and on black, as is the grey of all text.
var lineColours = []string{"#d9480f", "#1c7ed6", "#2b8a3e", "#9c36b5"}

// svg draws the curves of one picture, with the numbers of the first axis on a
// logarithmic scale where they are few and far apart.
func svg(title, xName string, log bool, curves []curve) string {
	maxX, maxY, minX := 0.0, 0.0, math.Inf(1)
	for _, c := range curves {
		for _, p := range c.Points {
			maxX, maxY, minX = max(maxX, p.X), max(maxY, p.Y), min(minX, p.X)
		}
	}
	top := nice(maxY)
	x := func(v float64) float64 {
		share := v / max(maxX, 1)
		if log && maxX > minX {
			share = math.Log(v/minX) / math.Log(maxX/minX)
		}
		return picLeft + share*(picWidth-picLeft-picRight)
	}
	y := func(v float64) float64 { return picHeight - picBottom - v/top*(picHeight-picTop-picBottom) }
	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" font-family=\"sans-serif\" font-size=\"13\">\n", picWidth, picHeight)
	b.WriteString("<style>text { fill: #7b838a } .grid { stroke: #7b838a; stroke-opacity: 0.4 }</style>\n")
	fmt.Fprintf(&b, "<title>%[1]s</title>\n<text x=\"%[2]g\" y=\"20\" font-size=\"15\">%[1]s</text>\n", html.EscapeString(title), picLeft)
	for k := range 6 {
		v := top * float64(k) / 5
		fmt.Fprintf(&b, "<line class=\"grid\" x1=\"%g\" x2=\"%g\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%g\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
			picLeft, picWidth-picRight, y(v), y(v), picLeft-8, y(v)+4, short(v))
	}
	for _, v := range marks(log, maxX, curves) {
		fmt.Fprintf(&b, "<text x=\"%.1f\" y=\"%g\" text-anchor=\"middle\">%s</text>\n", x(v), picHeight-picBottom+18, short(v))
	}
	fmt.Fprintf(&b, "<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">%s</text>\n", (picLeft+picWidth-picRight)/2, picHeight-10, html.EscapeString(xName))
	for k, c := range curves {
		if len(c.Points) == 0 {
			continue
		}
		colour := lineColours[k%len(lineColours)]
		var path []string
		for _, p := range c.Points {
			path = append(path, fmt.Sprintf("%.1f,%.1f", x(p.X), y(p.Y)))
		}
		fmt.Fprintf(&b, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"%s\"/>\n", colour, strings.Join(path, " "))
		if log {
			for _, p := range c.Points {
				fmt.Fprintf(&b, "<circle fill=\"%s\" r=\"3\" cx=\"%.1f\" cy=\"%.1f\"/>\n", colour, x(p.X), y(p.Y))
			}
		}
		end := c.Points[len(c.Points)-1]
		fmt.Fprintf(&b, "<text x=\"%.1f\" y=\"%.1f\" style=\"fill: %s\">%s</text>\n", x(end.X)+8, y(end.Y)+4, colour, html.EscapeString(c.Name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// marks are the numbers below the first axis.
func marks(log bool, maxX float64, curves []curve) (v []float64) {
	if !log {
		step := nice(maxX) / 5
		for k := 0; float64(k)*step <= maxX; k++ {
			v = append(v, float64(k)*step)
		}
		return v
	}
	for _, c := range curves {
		if len(c.Points) > len(v) {
			v = v[:0]
			for _, p := range c.Points {
				v = append(v, p.X)
			}
		}
	}
	return v
}

// nice is the next number above v that is 1, 2, 2.5 or 5 and zeros.
func nice(v float64) float64 {
	if v <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, k := range []float64{1, 2, 2.5, 5} {
		if v <= k*unit {
			return k * unit
		}
	}
	return 10 * unit
}

// short writes a number on an axis.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v/1e6), ".0") + "M"
	case v >= 1e3:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v/1e3), ".0") + "k"
	}
	return fmt.Sprintf("%g", math.Round(v*100)/100)
}
