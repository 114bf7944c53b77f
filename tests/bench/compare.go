package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
)

// comparison is what two programs have measured in turns.
type comparison struct {
	now   int // which of the two
	order []string
	rows  map[string]*compared
}

type compared struct {
	values [2][]float64
	more   bool
}

// worseBy is what a figure may be worse by, as the median of the rounds.
const worseBy = 1.05

// take notes a row of the program that is measured just now.
func (c *comparison) take(what, measured string, figures []figure) {
	fmt.Fprintf(os.Stderr, "%s  %-110s %s\n", [2]string{"old", "new"}[c.now], what, measured)
	for _, f := range figures {
		key := what
		if f.name != "" {
			key += ", " + f.name
		}
		row := c.rows[key]
		if row == nil {
			row = &compared{more: f.more}
			c.rows[key] = row
			c.order = append(c.order, key)
		}
		row.values[c.now] = append(row.values[c.now], f.value)
	}
}

// ratio is how much worse (above 1) or better the new program's median is.
func (r *compared) ratio() float64 {
	before, after := median(r.values[0]), median(r.values[1])
	if r.more {
		return before / after
	}
	return after / before
}

// compare measures two programs in turns, each measurement in all rounds before the next, and prints the medians and their
// ratio. Which one comes first changes from round to round.
func (b *bench) compare(ctx context.Context, chosen []measurement, against string, rounds int, results string) error {
	b.compared = &comparison{rows: map[string]*compared{}}
	programs := [2]string{against, product}
	for _, m := range chosen {
		for round := range rounds {
			for i := range programs {
				b.compared.now = (i + round) % 2
				product = programs[b.compared.now]
				if err := m.f(ctx); err != nil {
					b.compared.take(m.name, "failed: "+err.Error(), nil)
				}
			}
		}
	}
	text, worse := b.compared.markdown(rounds)
	fmt.Print(text)
	if results != "" {
		if err := os.WriteFile(results, []byte(text), 0o644); err != nil { //nolint:gosec // for everybody
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "%d figures more than %.0f%% worse\n", worse, 100*worseBy-100)
	return nil
}

func (c *comparison) markdown(rounds int) (text string, worse int) {
	var out strings.Builder
	fmt.Fprintf(&out, "Two programs in turns, %d times each: medians (least to most), and how much more of what is bad the new one has.\n\n"+
		"| what | before | after | after : before |\n|---|---|---|---|\n", rounds)
	for _, key := range c.order {
		r := c.rows[key]
		if len(r.values[0]) == 0 || len(r.values[1]) == 0 {
			fmt.Fprintf(&out, "| %s | %s | %s | |\n", key, spread(r.values[0]), spread(r.values[1]))
			continue
		}
		ratio, mark := r.ratio(), ""
		switch {
		case ratio > worseBy && !r.overlaps():
			mark, worse = " **worse**", worse+1
		case ratio > worseBy:
			mark, worse = " worse, within the spread", worse+1
		case ratio < 1/worseBy:
			mark = " better"
		}
		if math.IsNaN(ratio) || math.IsInf(ratio, 0) {
			mark = ""
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %.2f%s |\n", key, spread(r.values[0]), spread(r.values[1]), ratio, mark)
	}
	return out.String(), worse
}

// overlaps says whether the two programs' figures can't be told apart by their spread.
func (r *compared) overlaps() bool {
	return slices.Min(r.values[0]) <= slices.Max(r.values[1]) && slices.Min(r.values[1]) <= slices.Max(r.values[0])
}

func spread(values []float64) string {
	if len(values) == 0 {
		return "failed"
	}
	return fmt.Sprintf("%.4g (%.4g to %.4g)", median(values), slices.Min(values), slices.Max(values))
}
