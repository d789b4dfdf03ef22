//! Runs the demo's chain into the folder that is named, and says what it found.

use skn_session::Session;
use skn_session::options::{Compute, Subject};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let run = std::env::args_os().nth(1).ok_or("expected a folder to write to")?;
    let session = Session::new(Compute::default())?;
    let texts = ["the food was not bad .".into(), "we never liked the soup .".into()];
    let found = by_calls::chain(&session, Subject::demo("sentiment"), run.as_ref(), &texts)?;
    Ok(std::io::Write::write_all(&mut std::io::stdout(), format!("{found:#?}\n").as_bytes())?)
}
