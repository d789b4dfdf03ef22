//! A prompt that somebody wrote: its tokens are its positions, and its words make a difference.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::num::NonZeroUsize;
use std::path::Path;

use skn_artifact::hash_file;
use skn_session::options::{Compute, Probe, Subject, Tuned, TunedMethod};
use skn_session::{ProbeType, Session};

fn probe(run: &Path, text: &str) -> Probe {
    let mut probe = Probe::of(run, &[ProbeType::Acc]);
    (probe.subject, probe.tuned) = (Subject::demo("sentiment"), Tuned::default());
    probe.tuned.prompt_text = Some(text.into());
    probe
}

#[test]
fn a_written_prompt_is_read_in_place_of_one_of_chance() {
    let mut compute = Compute::default();
    compute.threads = NonZeroUsize::new(2);
    let (session, folder) = (Session::new(compute).unwrap(), tempfile::tempdir().unwrap());
    let counts = |name: &str, text: &str| {
        let run = folder.path().join(name);
        let found = session.probe(&probe(&run, text)).unwrap();
        (found.positions, hash_file(&run.join("sentiment/dev_perf.safetensors")).unwrap())
    };
    let (positions, first) = counts("first", " good");
    // The <mask> row, and the one token of a word that the demo knows.
    assert_eq!(positions, 2);
    assert_eq!(counts("again", " good"), (2, first.clone()));
    let (positions, other) = counts("other", " bad");
    assert_eq!(positions, 2);
    assert_ne!(first, other, "another word is another prompt");
    assert_eq!(counts("longer", " good good").0, 3);

    let refused = |change: &dyn Fn(&mut Probe)| {
        let mut probe = probe(&folder.path().join("refused"), " good");
        change(&mut probe);
        session.probe(&probe).unwrap_err().to_string()
    };
    let said = refused(&|of| of.tuned.prompt_size = NonZeroUsize::new(4));
    assert!(said.contains("option `prompt_text`") && said.contains("option `prompt_size`"), "{said}");
    let said = refused(&|of| of.tuned.method = Some(TunedMethod::Bias));
    assert!(said.contains("option `prompt_text`") && said.contains("RobertaBias"), "{said}");
    let said = refused(&|of| of.tuned.prompt_text = Some(String::new()));
    assert!(said.contains("a token at least"), "{said}");
}
