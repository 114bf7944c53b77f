package main

import (
	"fmt"
	"html"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// The recording: a terminal drawn as SVG, animated with CSS alone, so that it plays wherever a picture is shown. Where
// nothing plays, its last screen is seen.
const (
	columns     = 132
	rows        = 30
	charWidth   = 7.23 // of a monospace font of 12 pixels
	lineHeight  = 17
	margin      = 14
	lastPause   = 6 * time.Second
	longestWait = 1500 * time.Millisecond // between two lines: nobody wants to watch a waiter
)

var fills = map[kind]string{spoken: "#79c0ff", typed: "#ffffff", printed: "#c9d1d9"}

// wrap cuts lines at the terminal's width and shortens long waits.
func wrap(lines []line) (wrapped []line, length time.Duration) {
	var before, now time.Duration
	for _, l := range lines {
		now += min(l.at-before, longestWait)
		before = l.at
		text := l.text
		for {
			head := text
			if utf8.RuneCountInString(text) > columns {
				head = string([]rune(text)[:columns])
			}
			wrapped = append(wrapped, line{now, l.kind, head})
			if text = text[len(head):]; text == "" {
				break
			}
		}
	}
	return wrapped, now + lastPause
}

func percent(at, length time.Duration) float64 { return 100 * float64(at) / float64(length) }

// scroll is the animation that keeps the newest line in sight.
func scroll(lines []line, length time.Duration) string {
	var b strings.Builder
	b.WriteString("@keyframes scroll{0%{transform:translateY(0)}")
	for i := rows; i < len(lines); i++ {
		if i+1 < len(lines) && lines[i+1].at == lines[i].at {
			continue // they come together
		}
		fmt.Fprintf(&b, "%.2f%%{transform:translateY(%dpx)}", percent(lines[i].at, length), -(i-rows+1)*lineHeight)
	}
	end := max(0, len(lines)-rows) * lineHeight
	fmt.Fprintf(&b, "100%%{transform:translateY(-%dpx)}}", end)
	fmt.Fprintf(&b, "#screen{transform:translateY(-%dpx);animation:scroll %.2fs step-end infinite}", end, length.Seconds())
	return b.String()
}

// write writes the recording.
func (t *transcript) write(path string) error {
	lines, length := wrap(t.lines)
	width, height := columns*charWidth+2*margin, rows*lineHeight+2*margin
	var style, body strings.Builder
	for i, l := range lines {
		// Each line is hidden until its time; lines of one moment share an animation.
		if i == 0 || lines[i-1].at != l.at {
			fmt.Fprintf(&style, "@keyframes a%d{0%%{opacity:0}%.2f%%{opacity:1}}", i, percent(l.at, length))
		}
		first := i
		for first > 0 && lines[first-1].at == l.at {
			first--
		}
		if l.text != "" {
			fmt.Fprintf(&body, `<text y="%d" fill="%s" style="animation-name:a%d">%s</text>`+"\n", (i+1)*lineHeight-4, fills[l.kind], first, html.EscapeString(l.text))
		}
	}
	svg := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]g %[2]d">
<title>make demo: from the first deployment to the end by itself</title>
<style>text{font:12px ui-monospace,Menlo,Consolas,monospace;white-space:pre;animation:%[3]gs step-end infinite}%[4]s%[5]s</style>
<rect width="%[1]g" height="%[2]d" rx="8" fill="#0d1117"/>
<svg x="%[6]d" y="%[6]d" width="%[7]g" height="%[8]d" overflow="hidden"><g id="screen" xml:space="preserve">
%[9]s</g></svg>
</svg>
`, width, height, length.Seconds(), style.String(), scroll(lines, length), margin, width-2*margin, rows*lineHeight, body.String())
	return os.WriteFile(path, []byte(svg), 0o644)
}
