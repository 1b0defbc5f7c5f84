"""Show a training live, train what-if runs, and answer the explorer of notebook 40."""
