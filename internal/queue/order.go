package queue

import (
	"cmp"
	"slices"
)

// Order picks the places out of the names of a line's children, the first first.
// Foreign nodes are left out.
func Order(names []string) []string {
	sequence := map[string]int32{}
	var places []string
	for _, name := range names {
		if _, seq, _, ok := parseName(name); ok {
			sequence[name] = seq
			places = append(places, name)
		}
	}
	slices.SortFunc(places, func(a, b string) int { return cmp.Compare(sequence[a], sequence[b]) })
	return places
}
