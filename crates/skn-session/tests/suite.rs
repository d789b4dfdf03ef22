//! The stages as calls. One program, since each is linked anew.

mod changed;
mod made_masks;
mod older_counts;
mod same_neuron;
mod selecting;
mod service;
mod statistics;
mod top_texts;
mod warnings;
mod written_prompt;
