//! Edits of activations as data, the hook that applies them, and random controls
