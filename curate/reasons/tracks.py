"""Sentences for what is found on tracks. Frames and ids are those of the input."""

SENTENCES: dict[str, str] = {
    "track_id_switch": "Between frames {frame_before} and {frame} the id {track} moves {diagonals} box diagonals away "
    "from its course, and goes on where the id {other} was.",
    "track_id_switch_seen": "Between frames {frame_before} and {frame} the id {track} is {diagonals} box diagonals off "
    "its course; {n_teachers} teacher(s) ({teachers}) follow the id {other} to this box.",
    "track_id_switch_unknown": "Between frames {frame_before} and {frame} the id {track} is {diagonals} box diagonals "
    "off its course, and teachers ({teachers}) follow it to a box of another id.",
    "track_id_after_switch": "From frame {frame} on the id {track} stands on what was {other} before.",
    "track_id_after_change": "From frame {frame} on the id {track} stands on another thing; this box comes after.",
    "track_id_returns": "In frame {frame} the id {track} is back on what it stood on before it changed hands.",
    "track_id_reused": "The id {track} is not there for {n_missing} annotated frame(s) and comes back in frame {frame} "
    "too far from where it was, or too different in size: another thing under its name.",
    "track_renamed": "The id {track} begins in frame {frame} where the id {other}, last seen in frame {frame_before}, "
    "would be: one thing under two ids.",
    "track_renamed_seen": "The id {track} begins in frame {frame} where the id {other}, last seen in frame "
    "{frame_before}, would be; {n_teachers} teacher(s) ({teachers}) follow both with one track.",
    "track_jump": "Between frames {frame_before} and {frame} the id {track} jumps {diagonals} box diagonals off its "
    "course.",
    "track_jump_seen": "Between frames {frame_before} and {frame} the id {track} jumps {diagonals} box diagonals off "
    "its course; {n_teachers} teacher(s) ({teachers}) see it elsewhere in frame {frame}.",
    "track_jump_small": "In frame {frame} the id {track} is {deviations} standard deviations of how boxes shake here "
    "from where its boxes before and after put it.",
    "track_jump_small_seen": "In frame {frame} the id {track} is {deviations} standard deviations of how boxes shake "
    "here from where its boxes before and after put it; {n_teachers} teacher(s) ({teachers}) see it nearer to there.",
    "track_jump_start": "In frame {frame} the id {track} is {diagonals} box diagonals off the course that it takes from "
    "frame {frame_after} on.",
    "track_gap": "The id {track} misses {n_missing} annotated frame(s) between frames {frame_before} and {frame}.",
    "track_gap_seen": "The id {track} misses {n_missing} annotated frame(s) between frames {frame_before} and {frame}; "
    "{n_teachers} teacher(s) ({teachers}) see it there.",
    "track_gap_follows": "After this box the id {track} misses {n_missing} annotated frame(s), up to frame {frame}.",
    "track_ends_seen": "The id {track} ends in frame {frame}; {n_teachers} teacher(s) ({teachers}) follow the same thing "
    "in {n_missing} more annotated frame(s).",
    "track_begins_seen": "The id {track} begins in frame {frame}; {n_teachers} teacher(s) ({teachers}) follow the same "
    "thing in {n_missing} annotated frame(s) before.",
    "track_duplicate_id": "The id {track} stands {n} times in frame {frame}.",
    "track_duplicate_id_worse": "The id {track} stands {n} times in frame {frame}; of these this box is furthest from "
    "where the id is before and after.",
    "track_duplicate_id_of": "The id {track} stands {n} times in frame {frame}; this box is where the id {other} has "
    "none.",
    "track_class_flip": "The class {label} stands on {n_own} of the {n} boxes of the id {track}; most say {usual}.",
    "track_class_tie": "The class {label} stands on {n_own} of the {n} boxes of the id {track}, and another on as "
    "many.",
    "track_class_seen": "The class {label} stands on {n_own} of the {n} boxes of the id {track}; {n_teachers} teacher(s) "
    "({teachers}) see {usual}.",
    "track_box_ignored": "The labels say not to consider the box of the id {track} in frame {frame} (0 in the seventh "
    "column), so it was not judged.",
    "track_box_unusable": "The box of the id {track} in frame {frame} has no area or is not finite, so it could not be "
    "placed on the track.",
}

_AFTER = " {n_after} more box(es) of the id, up to frame {frame_last}, are in doubt with this one."
FURTHER: dict[str, str] = dict.fromkeys(
    (
        "track_id_switch",
        "track_id_switch_seen",
        "track_id_switch_unknown",
        "track_id_reused",
        "track_renamed",
        "track_renamed_seen",
    ),
    _AFTER,
)

# what is told at another box of the same id, and stands here only so that the box waits with that one
FOLLOWS = frozenset({"track_id_after_switch", "track_id_after_change", "track_gap_follows"})
