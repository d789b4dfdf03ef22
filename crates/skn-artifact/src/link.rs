use std::path::Path;

use crate::error::{ArtifactError, Result};
use crate::look::is_absence;

/// Refuses to write, or to remove, a file of a run through a link, which leads who knows where. `name` is its path in the run,
/// whose folder itself may be a link.
///
/// # Errors
/// [`ArtifactError::Link`], naming the link and where it leads; or if the system can't say what is there.
pub fn refuse_link(run: &Path, name: &Path) -> Result<()> {
    let mut path = run.to_path_buf();
    for part in name.components() {
        path.push(part);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let target = std::fs::read_link(&path).unwrap_or_default();
                return Err(ArtifactError::Link { file: path, target });
            }
            Ok(_) => {}
            // What can't be looked at may be one.
            Err(error) if is_absence(&error) => break,
            Err(error) => return Err(ArtifactError::io(&path, "look at")(error)),
        }
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_link_anywhere_below_the_run_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        std::fs::create_dir(folder.path().join("real")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("real"), &run).unwrap();
        refuse_link(&run, Path::new("info/sst2/0.1.safetensors")).unwrap();
        std::os::unix::fs::symlink("/elsewhere", run.join("info")).unwrap();
        let message = refuse_link(&run, Path::new("info/sst2/0.1.safetensors")).unwrap_err().to_string();
        assert!(message.contains("run/info: a link to /elsewhere; files of a run"), "{message}");
    }
}
