//! Compiled programs, laid out for an image that takes them as they are.

use std::io;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::command::{COMMAND_TIMEOUT, ComposeError};
use shared::child;

/// Puts compiled programs where an image takes them from: `dist/` in the workspace, `root`.
///
/// Without their symbols, where binutils are there to take them out: they are three quarters of a program that
/// every image and every layer of it holds anew.
///
/// # Errors
/// [`ComposeError::Dist`].
pub async fn install_programs(root: &Path, programs: &[PathBuf]) -> Result<(), ComposeError> {
    for program in programs {
        let laid_out = install_program(root, program).await;
        laid_out.map_err(|why| ComposeError::Dist { program: program.clone(), why })?;
    }
    Ok(())
}

async fn install_program(root: &Path, program: &Path) -> io::Result<()> {
    let name = program.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let compiled = program.metadata()?;
    let dist = root.join("dist");
    std::fs::create_dir_all(&dist)?;
    let place = dist.join(name);
    // The copy has the modification time of its source, so equal times mean an up-to-date copy.
    if place.metadata().and_then(|there| there.modified()).ok() == Some(compiled.modified()?) {
        return Ok(());
    }
    // Under its name only when it is whole.
    let partial = tempfile::NamedTempFile::new_in(&dist)?;
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(partial.path()).arg(program);
    if !child::output(strip, COMMAND_TIMEOUT).await.is_ok_and(|stripped| stripped.status.success()) {
        std::fs::copy(program, partial.path())?;
    }
    let laid_out = std::fs::File::options().write(true).open(partial.path())?;
    laid_out.set_permissions(compiled.permissions())?;
    laid_out.set_modified(compiled.modified()?)?;
    partial.persist(place)?;
    Ok(())
}
