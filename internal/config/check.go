package config

import (
	"errors"
	"maps"
	"slices"
)

// Lookup returns the setting with the key.
func Lookup(key string) (Setting, bool) { return find(key) }

// Check judges settings, by key, that come from elsewhere than an agent's own four
// places, as Load would: what is not given counts as its default. The error joins an
// *Error for each thing that is wrong; the Config is then the zero value.
func Check(values map[string]string) (Config, error) {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if _, ok := find(key); !ok {
			errs = append(errs, unknownKey(key, "", false))
		}
	}
	c, found, err := layers{env: values, file: document{}}.resolve()
	errs = append(errs, err)
	for _, e := range found {
		e.Source = "" // it would name a variable
		errs = append(errs, e)
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
	return c, nil
}
