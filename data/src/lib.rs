//! The embedded demo of skn: a tiny pre-trained RoBERTa and three tasks
