//! What kind of machine an image is made for, and whether that is the one that the job asks for.

use crate::pull::Puller;
use crate::resolved::Resolved;
use crate::trouble::Failure;
use nunbird_handover::Untrusted;
use nunbird_stage::StageError;

/// So many characters of a platform are shown where it is none.
const LONGEST: usize = 80;

impl Puller<'_> {
    /// Checks what a pull has brought: engines take a configuration that says nothing, and some an image for another platform.
    pub(crate) fn check(&self, image: Resolved) -> Result<Resolved, Failure> {
        let name = self.name.full();
        let text = match (&image.platform, &self.image.platform) {
            (platform, _) if !image.is_whole() => format!(
                "cannot use the image {name}: what the registry serves is no image, because its configuration cannot be read, or does not name an \
                 operating system and an architecture (`{}`); push the image again, or use another one",
                Untrusted(&platform.as_deref().unwrap_or_default().chars().take(LONGEST).collect::<String>())
            ),
            (Some(has), Some(wanted)) if !self.is_for_the_platform(&image) => format!(
                "cannot use the image {name}: it is for the platform {}, and the job asks for {} (`docker: platform:`); use an image for that \
                 platform, or correct the platform",
                Untrusted(has),
                Untrusted(wanted)
            ),
            _ => return Ok(image),
        };
        Err(Failure::Job(StageError::sentence(&text)))
    }

    /// Whether it is for the platform that the job names; the store has one copy for all platforms.
    pub(crate) fn is_for_the_platform(&self, image: &Resolved) -> bool {
        let two = |text: &str| text.split('/').take(2).map(str::to_owned).collect::<Vec<_>>();
        match (&self.image.platform, &image.platform) {
            (Some(wanted), Some(has)) if wanted.contains('/') => two(wanted) == two(has),
            _ => true,
        }
    }
}
