//! `status`: a table of the peers as this pod sees them.

use crate::cli::Output;
use crate::exit::Fatal;
use crate::settings::Settings;

/// Prints it.
///
/// # Errors
/// Where the disk cannot be read.
pub async fn status(settings: &Settings, output: Output) -> Result<(), Fatal> {
    let status = super::plan::observe(settings).await?;
    match output {
        Output::Json => println!("{}", status.json(true).unwrap_or_default().trim_end()),
        Output::Text => println!("{status}"),
    }
    Ok(())
}
