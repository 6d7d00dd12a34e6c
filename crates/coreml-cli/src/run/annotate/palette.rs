//! Distinct colours for classes.

/// A colour for each class: hues are spread by the golden ratio, and light and dark colours take turns.
pub(super) fn color(class: usize) -> [u8; 3] {
    let hue = (class as f64 * 0.618_033_988_75 + 0.98).fract() * 6.0;
    let (saturation, value) = [(0.85, 1.0), (0.9, 0.9), (0.6, 1.0)][class % 3];
    let channel = |shift: f64| {
        let k = (shift + hue) % 6.0;
        let level = value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0);
        (level * 255.0).round() as u8
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

/// Black or white, whichever is read more easily on this colour.
pub(super) fn ink([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let light = 0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue);
    if light > 140.0 { [0; 3] } else { [255; 3] }
}
