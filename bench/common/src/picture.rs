//! Pictures: SVG files with the colours that all of them share.

use std::path::Path;

use anyhow::anyhow;
use plotters::{coord::Shift, prelude::*};

/// Colour of text and axes.
pub const GREY: RGBColor = RGBColor(0x55, 0x5b, 0x66);
/// Colour of bars that are not compared.
pub const LIGHT: RGBColor = RGBColor(0xa8, 0xb0, 0xbd);
/// Colour of worst values.
pub const RED: RGBColor = RGBColor(0xc8, 0x3c, 0x3c);
/// Colour of Voicelane's values.
pub const BLUE: RGBColor = RGBColor(0x2b, 0x6c, 0xb0);
/// Colour of ideals and means.
pub const GREEN: RGBColor = RGBColor(0x2f, 0x85, 0x5a);
/// Colour of other programs.
pub const ORANGE: RGBColor = RGBColor(0xdd, 0x8a, 0x3c);

/// A part of a picture.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// Why a picture cannot be drawn.
pub type Failure<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

/// Draws on a white area of `size` pixels, and writes it to an SVG file.
pub fn draw<'a>(
    file: &'a Path,
    size: (u32, u32),
    paint: impl FnOnce(&Area<'a>) -> Result<(), Failure<'a>>,
) -> anyhow::Result<()> {
    let area = SVGBackend::new(file, size).into_drawing_area();
    area.fill(&WHITE)
        .and_then(|()| paint(&area))
        .and_then(|()| area.present())
        .map_err(|error| anyhow!("cannot draw {}: {error}", file.display()))
}

/// Rounds to the nearest pixel.
#[allow(
    clippy::cast_possible_truncation,
    reason = "pixels of a picture of a known size"
)]
#[must_use]
pub fn pixel(at: f64) -> i32 {
    at.round() as i32
}
