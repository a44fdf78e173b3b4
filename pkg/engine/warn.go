package engine

import "context"

type warnKey struct{}

// WithWarn returns a context in which Warn calls f.
func WithWarn(ctx context.Context, f func(text string)) context.Context {
	return context.WithValue(ctx, warnKey{}, f)
}

// Warn tells the user what is no reason to fail: a protection that this host does
// not allow, a former value that cannot be restored. It does nothing where nobody
// asked for warnings.
func Warn(ctx context.Context, text string) {
	if f, ok := ctx.Value(warnKey{}).(func(string)); ok {
		f(text)
	}
}
