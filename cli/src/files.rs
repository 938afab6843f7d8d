//! Files that this program writes.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The name of a file that means standard input or standard output.
pub const STANDARD: &str = "-";

/// Writes a file as a whole: others read either all of it or what was there before. The mode of a file that is there is kept. A symbolic
/// link stays, and the file that it leads to is replaced.
///
/// # Errors
///
/// If `write` fails, or the file can't be written.
pub fn write_at_once(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let there = fs::metadata(path).ok();
    let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    if there.as_ref().map_or(is_link, |there| !there.is_file()) {
        // A device, or a link to nothing yet.
        return buffered(File::create(path)?, write).map(drop);
    }
    let path = &if is_link { fs::canonicalize(path)? } else { path.to_owned() };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The umask takes from it what it takes from every file.
    let file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
    let file = buffered(file, write)?;
    if let Some(there) = there {
        file.as_file().set_permissions(there.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn buffered<W: Write>(file: W, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<W> {
    let mut file = BufWriter::new(file);
    write(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)
}
