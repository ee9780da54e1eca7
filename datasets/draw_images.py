"""Draws datasets/images: small pictures of birds, cats and dogs to train a classifier on.

    python datasets/draw_images.py [FOLDER]

writes FOLDER/{train,test}/{bird,cat,dog}/NN.png, 48 x 48 RGB, 80 pictures a class to train on and
20 to test with. Every picture has a seed of its own, its name, so that the same files come out
whenever this runs.

A figure is drawn facing right, feet at y = 40, in a box of 100 x 100 whose middle is (0, 0) and
whose y points down; a `Canvas` mirrors, turns, scales and moves it. It is drawn four times as large
as it is kept, and averaged down. Colours of backgrounds, coats and feathers come from the same
tables for all classes as far as nature allows: what tells the classes apart is to be the shape.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageColor, ImageDraw

SIDE = 48  # pixels of a finished picture
DRAWN = 4 * SIDE  # pixels while drawing
COUNTS = {"train": 80, "test": 20}

Colour = tuple[int, int, int]
Point = tuple[float, float]
Points = str | Sequence[Point] | np.ndarray


def _palette(text: str) -> list[Colour]:
    return [ImageColor.getrgb(f"#{digits}") for digits in text.split()]


# Black, slate, grey, white, cream, tan, ginger, rust, brown, chocolate.
FUR = _palette("3a3842 626674 969aa4 f6f4f0 f2deba d8ac76 e69246 be683e 8e6242 664838")
# Blue, red, yellow, green, teal, pink.
BRIGHT = _palette("5490d4 d45048 f6d054 70b068 46a4a8 f0a0ac")
WALLS = _palette(
    "fae8d0 d6e8e2 e2dcf2 fad6d0 cee0f4 eeece4 78968c 887082 5c6e8e c4aa8c f4dc8c a8be96"
)
# The top and the bottom of the sky: by day, in the evening, at night, under clouds.
DAY = [_palette("7ebcec def0fa"), _palette("5c98dc bedef4")]
EVENING = [_palette("fab082 fce4b2"), _palette("9684be fac4b4")]
SKIES = [*DAY, *EVENING, _palette("222c56 586296"), _palette("c4d0dc ecf0f2")]
GRASS = _palette("7eb65e 5c9654 a8c260")
# Grass, sand, snow, earth, clay, stone, ice.
GROUNDS = [*GRASS, *_palette("ead6a4 f4f8fa b0845e ceb08c 7a6c70 96aabe")]
FLOORS = _palette("b0845e ceb08c 7a6c70 96aabe e2c4a0 926852 ba786e 82968c")
WHITE, NEAR_BLACK, ROSE = (252, 250, 248), (40, 36, 42), (238, 142, 146)


# Colours and shapes.


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour in the first."""
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))


def darker(colour: Colour, share: float = 0.3) -> Colour:
    return mix(colour, (24, 18, 30), share)


def lighter(colour: Colour, share: float = 0.4) -> Colour:
    return mix(colour, (255, 252, 246), share)


def difference(first: Colour, second: Colour) -> float:
    """How far apart two colours look, roughly: the eye sees green best and blue least."""
    return math.sqrt(
        sum(w * (a - b) ** 2 for w, a, b in zip((0.9, 1.5, 0.6), first, second, strict=True))
    )


class Shape(NamedTuple):
    """A polygon, or, with radii, a disc at each point."""

    points: np.ndarray  # float (n, 2)
    radii: np.ndarray | None = None  # float (n,)


def polygon(points: Points) -> Shape:
    return Shape(_points(points))


def box(left: float, top: float, right: float, bottom: float) -> Shape:
    return polygon([(left, top), (right, top), (right, bottom), (left, bottom)])


def ellipse(x: float, y: float, width: float, height: float, turn: float = 0.0) -> Shape:
    """An ellipse by its half axes, turned clockwise by `turn` degrees."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    points = np.stack([width * np.cos(angles), height * np.sin(angles)], axis=1)
    return Shape(points @ _rotation(turn).T + (x, y))


def blob(points: Points) -> Shape:
    """A smooth closed outline through the points."""
    corners = _points(points)
    return Shape(_spline(np.concatenate([corners[-1:], corners, corners[:2]])))


def limb(points: Points, start: float, end: float) -> Shape:
    """A smooth stroke through the points, whose half width goes from `start` to `end`."""
    points = _points(points)
    steps = max(8, round(np.ptp(points, axis=0).max() / 1.5))  # close enough to look smooth
    curve = _spline(np.concatenate([points[:1], points, points[-1:]]), steps)
    return Shape(curve, np.linspace(start, end, len(curve)))


def mirrored(shape: Shape) -> Shape:
    return Shape(shape.points * (-1, 1), shape.radii)


def both(shape: Shape) -> tuple[Shape, Shape]:
    """The shape and its mirror image on the other side of x = 0."""
    return shape, mirrored(shape)


def symmetric(points: Points) -> Shape:
    """A smooth closed outline whose right half, from top to bottom, goes through the points."""
    right = _points(points)
    left = right[::-1] * (-1, 1)
    return blob(np.concatenate([right, left[left[:, 0] < 0]]))


def _points(points: Points) -> np.ndarray:
    """Float (n, 2) from points, or from text as in SVG: "x,y x,y"."""
    if isinstance(points, str):
        points = [tuple(map(float, point.split(","))) for point in points.split()]
    return np.array(points, dtype=float)


def _spline(points: np.ndarray, steps: int = 8) -> np.ndarray:
    """The Catmull-Rom curve from the second point to the last but one."""
    t = np.arange(steps)[:, None] / steps
    before, here, there, after = (points[i : len(points) - 3 + i, None] for i in range(4))
    slope = there - before
    bend = 2 * before - 5 * here + 4 * there - after
    twist = 3 * (here - there) + after - before
    curve = here + 0.5 * t * (slope + t * (bend + t * twist))
    return np.concatenate([curve.reshape(-1, 2), points[-2:-1]])


def _rotation(degrees: float) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]])


# What is drawn on.


class Canvas:
    """A picture and where the figure's coordinates lie on it."""

    def __init__(
        self, image: Image.Image, matrix: np.ndarray | None = None, origin: Point = (0, 0)
    ):
        self.image = image
        self.matrix = np.eye(2) * DRAWN / 100 if matrix is None else matrix
        self.origin = np.array((DRAWN / 2, DRAWN / 2)) if matrix is None else np.array(origin)

    def at(
        self, x: float, y: float, scale: float = 1.0, turn: float = 0.0, mirror: bool = False
    ) -> Canvas:
        """The same picture with coordinates of its own, whose (0, 0) is (x, y) here."""
        inner = _rotation(turn) @ np.diag([-scale if mirror else scale, scale])
        return Canvas(self.image, self.matrix @ inner, self.pixels([(x, y)])[0])

    @property
    def scale(self) -> float:
        """Pixels of a unit."""
        return math.sqrt(abs(np.linalg.det(self.matrix)))

    def pixels(self, points) -> np.ndarray:
        return np.asarray(points, dtype=float) @ self.matrix.T + self.origin

    def mask(self, shapes: Sequence[Shape], grow: float = 0.0) -> Image.Image:
        """255 where one of the shapes is, all of them made `grow` pixels wider on each side."""
        mask = Image.new("L", self.image.size)
        pen = ImageDraw.Draw(mask)
        for shape in shapes:
            points = self.pixels(shape.points)
            radii = np.zeros(len(points)) if shape.radii is None else shape.radii * self.scale
            if shape.radii is None:
                pen.polygon([*map(tuple, points)], fill=255)
                if grow:
                    pen.line([*map(tuple, points), tuple(points[0])], 255, round(2 * grow))
            if shape.radii is not None or grow:
                for (x, y), r in zip(points, radii + grow, strict=True):
                    pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
        return mask

    def paint(
        self,
        colour: Colour,
        *shapes: Shape,
        outline: float = 3.4,
        within: Image.Image | None = None,
        shade: float = 0.0,
    ) -> Image.Image:
        """Fills the shapes as one figure and returns its mask.

        Args:
            outline: pixels of the dark line around it; none inside another mask.
            within: the mask of what it is painted on; nothing is painted outside.
            shade: how much darker its lower edge is.
        """
        if outline and within is None:
            self._fill(darker(colour, 0.62), self.mask(shapes, outline))
        mask = self.mask(shapes)
        if within is not None:
            mask = ImageChops.multiply(mask, within)
        self._fill(colour, mask, shade)
        return mask

    def _fill(self, colour: Colour, mask: Image.Image, shade: float = 0.0) -> None:
        edges = mask.getbbox()
        if edges is None:  # beside the picture
            return
        mask = mask.crop(edges)
        self.image.paste(colour, edges, mask)
        if shade:
            ramp = ImageChops.multiply(Image.linear_gradient("L").resize(mask.size), mask)
            self.image.paste(darker(colour, 0.8), edges, ramp.point(lambda v: round(v * shade)))

    def line(self, colour: Colour, points: Points, width: float = 2.4) -> None:
        """A smooth line, `width` pixels wide whatever the scale is."""
        half = width / 2 / self.scale
        self.paint(colour, limb(points, half, half), outline=0)


# Cats and dogs.


class Animal(NamedTuple):
    """What a cat or a dog looks like, in any pose."""

    rng: random.Random
    fur: Colour
    marks: Colour
    pattern: str
    eyes: Colour
    collar: Colour | None
    head: Callable[[Canvas, Animal, float], None]  # which way it looks: -1 left, 0 front, 1 right
    tail: Callable[[Canvas, Animal, bool], None]  # upwards or along the ground
    leg: float  # half width
    tall: float  # length of its legs

    @property
    def colours(self) -> tuple[Colour, Colour]:
        """The two that must show on the background."""
        return self.fur, self.marks if self.pattern in ("saddle", "patches") else self.fur


def cat(rng: random.Random) -> Animal:
    fur = rng.choice(FUR)
    pattern = rng.choice(["plain", "tabby", "tabby", "bib", "patches", "points"])
    eyes = rng.choice([(150, 200, 90), (240, 196, 70), (110, 176, 220)])
    collar = rng.choice([None, None, *BRIGHT])
    marks, tall = _marks(rng, fur), rng.uniform(20, 26)
    return Animal(rng, fur, marks, pattern, eyes, collar, cat_head, cat_tail, 3.6, tall)


def dog(rng: random.Random) -> Animal:
    fur = rng.choice(FUR)
    pattern = rng.choice(["plain", "saddle", "bib", "patches", "patches", "points"])
    collar = rng.choice([None, *BRIGHT])
    head = rng.choice([dog_head, dog_profile])
    marks, tall = _marks(rng, fur), rng.uniform(14, 28)
    return Animal(rng, fur, marks, pattern, (66, 44, 34), collar, head, dog_tail, 4.4, tall)


def _marks(rng: random.Random, fur: Colour) -> Colour:
    """Another colour of fur that shows on this one."""
    return rng.choice([c for c in FUR if difference(c, fur) > 90])


def coat(canvas: Canvas, animal: Animal, mask: Image.Image) -> None:
    """Paints the markings of the trunk, which spans x -28..24 and y -14..34, into its mask."""
    rng, marks = animal.rng, animal.marks
    if animal.pattern == "tabby":
        for x in range(-26, 20, 8):
            stripe = limb([(x, -16), (x + 3, -4), (x + 1, 5)], 2.0, 0.6)
            canvas.paint(darker(animal.fur, 0.42), stripe, within=mask)
    elif animal.pattern == "patches":
        for _ in range(4):
            x, y = rng.uniform(-26, 18), rng.uniform(-10, 24)
            spot = ellipse(x, y, rng.uniform(4, 9), rng.uniform(4, 8), rng.uniform(0, 90))
            canvas.paint(marks, spot, within=mask)
    elif animal.pattern == "saddle":
        canvas.paint(marks, ellipse(-6, -10, 22, 14), within=mask)
    elif animal.pattern == "bib":
        canvas.paint(_pale(animal), ellipse(16, 8, 9, 16, 10), within=mask)


def _pale(animal: Animal) -> Colour:
    """Of muzzle, bib and paws: lighter than the fur, and never quite its colour."""
    return lighter(animal.fur, 0.72) if sum(animal.fur) < 640 else (228, 222, 216)


def _ear_colour(animal: Animal) -> Colour:
    marked = animal.pattern in ("points", "saddle", "patches")
    return animal.marks if marked else darker(animal.fur, 0.24)


def _eye(canvas: Canvas, x: float, y: float, size: float, iris: Colour, slit: bool) -> None:
    canvas.paint(NEAR_BLACK, ellipse(x, y, size + 0.8, size + 0.8), outline=0)
    canvas.paint(iris, ellipse(x, y, size, size), outline=0)
    canvas.paint(NEAR_BLACK, ellipse(x, y, size * (0.42 if slit else 0.7), size * 0.9), outline=0)
    canvas.paint(WHITE, ellipse(x + 0.3 * size, y - 0.4 * size, 0.3 * size, 0.3 * size), outline=0)


def cat_head(canvas: Canvas, animal: Animal, look: float) -> None:
    """Pointed ears, slit pupils, whiskers; 20 units half wide."""
    rng, shift = animal.rng, 4 * look
    points = animal.pattern == "points"
    ears = both(blob("-18,-3 -18.5,-17 -16,-29 -8,-21 -2,-14"))
    canvas.paint(animal.marks if points else animal.fur, *ears)
    inner = both(blob("-15.5,-9 -15.5,-22 -7,-14"))
    canvas.paint(mix(ROSE, animal.fur, 0.25), *inner, outline=0)
    face = symmetric("0,-17 13,-13.5 20,-2 17,9 8,15")
    mask = canvas.paint(animal.fur, face, shade=0.2)
    if animal.pattern == "tabby":
        for x in (-6, 0, 6):
            stripe = limb([(x + shift / 2, -18), (0.8 * x + shift / 2, -9)], 1.7, 0.8)
            canvas.paint(darker(animal.fur, 0.42), stripe, within=mask)
    elif points:
        canvas.paint(mix(animal.fur, animal.marks, 0.8), ellipse(shift, 5, 11, 10), within=mask)
    elif animal.pattern == "patches":
        canvas.paint(animal.marks, ellipse(12, -10, 11, 13, 20), within=mask)
    elif animal.pattern == "bib":
        blaze = polygon(f"{shift},-14 {shift + 9},16 {shift - 9},16")
        canvas.paint(_pale(animal), blaze, within=mask)
    if not points:
        muzzle = ellipse(shift - 4, 7.5, 5.6, 4.6), ellipse(shift + 4, 7.5, 5.6, 4.6)
        canvas.paint(_pale(animal), *muzzle, within=mask)
    asleep = rng.random() < 0.12
    for x in (-8.6, 8.6):
        if asleep:
            canvas.at(x + shift, -3).line(NEAR_BLACK, "-4,0 0,2.5 4,0", 3)
        else:
            _eye(canvas, x + shift, -2.5, 4.6, animal.eyes, slit=True)
    canvas.paint(ROSE, polygon([(shift - 2.8, 3), (shift + 2.8, 3), (shift, 6)]), outline=0)
    for side in (-1, 1):
        canvas.line(NEAR_BLACK, [(shift, 6), (shift + 2 * side, 9.4), (shift + 5 * side, 9)], 1.8)
        for y in (3.5, 8, 12.5):
            hair = [(shift + 8 * side, 0.5 * y + 4), (shift + 27 * side, 1.5 * y - 4)]
            canvas.line(WHITE if sum(animal.fur) < 420 else darker(animal.fur, 0.7), hair, 1.7)


def cat_tail(canvas: Canvas, animal: Animal, up: bool) -> None:
    """Long and curled, from (0, 0)."""
    bend = animal.rng.uniform(-3, 3)
    if up:
        way = _points(f"0,0 -11,-7 {bend - 13},-22 -8,-34 -1,-37 2,-31")
    else:
        way = _points(f"0,0 -13,1 -19,-9 {bend - 15},-19 -21,-28 -27,-24")
    mask = canvas.paint(animal.fur, limb(way, 4, 3))
    if animal.pattern == "tabby":
        for x, y in way[1:]:
            canvas.paint(darker(animal.fur, 0.42), ellipse(x, y, 5, 1.8, 30), within=mask)
    elif animal.pattern != "plain":
        tip = animal.marks if animal.pattern == "points" else _pale(animal)
        canvas.paint(tip, ellipse(*way[-2], 9, 7), within=mask)


def _dog_ear(canvas: Canvas, animal: Animal, side: int) -> None:
    ear = blob("9,-16 17,-15 23,-3 23,11 17,15 13,6 12,-5")
    canvas.paint(_ear_colour(animal), ear if side > 0 else mirrored(ear), shade=0.2)


def _tongue(canvas: Canvas, x: float, y: float, length: float) -> None:
    canvas.paint((240, 120, 132), limb([(x, y), (x + 0.6, y + length)], 3.6, 3.8), outline=2.4)
    canvas.line((206, 84, 100), [(x, y), (x + 0.4, y + length - 1)], 1.6)


def dog_head(canvas: Canvas, animal: Animal, look: float) -> None:
    """From the front: hanging ears, a large nose on a muzzle, a tongue."""
    rng, shift = animal.rng, 4 * look
    if rng.random() < 0.75:
        _tongue(canvas, shift * 1.2 + 1, 18, 7)
    face = symmetric("0,-19 11,-17 16,-7 14,6 9,17 0,20")
    mask = canvas.paint(animal.fur, face, shade=0.15)
    if animal.pattern == "bib":
        canvas.paint(_pale(animal), ellipse(shift, -8, 3.6, 16), within=mask)
    elif animal.pattern == "patches":
        canvas.paint(animal.marks, ellipse(8 + shift, -7, 8, 10, 15), within=mask)
    elif animal.pattern == "points":
        canvas.paint(animal.marks, *(ellipse(shift + x, -11, 2.8, 2) for x in (-7, 7)), within=mask)
    for side in (-1, 1):
        _dog_ear(canvas, animal, side)
        _eye(canvas, 7 * side + shift, -5, 2.7, animal.eyes, slit=False)
    canvas.paint(_pale(animal), ellipse(1.3 * shift, 10, 10.5, 8.6), outline=1.6, shade=0.15)
    canvas.line(NEAR_BLACK, [(1.4 * shift, 8), (1.4 * shift, 13)], 2)
    for side in (-1, 1):
        canvas.line(NEAR_BLACK, [(1.4 * shift, 13), (1.4 * shift + 6 * side, 14)], 2)
    canvas.paint(NEAR_BLACK, ellipse(1.5 * shift, 5, 5, 3.6), outline=0)
    canvas.paint((150, 146, 156), ellipse(1.5 * shift - 1, 3.7, 1.5, 0.9), outline=0)


def dog_profile(canvas: Canvas, animal: Animal, look: float) -> None:
    """From the side, facing right: a long snout with the nose at its end, one hanging ear."""
    if look < 0.5:
        return dog_head(canvas, animal, look)
    rng = animal.rng
    long = rng.uniform(22, 28)
    if rng.random() < 0.75:
        _tongue(canvas, long - 9, 9, 8)
    skull = ellipse(-2, -4, 15, 14)
    snout = blob(f"2,-12 12,-7 {long - 3},-4.5 {long},1 {long - 3},7 12,9.5 0,10")
    mask = canvas.paint(animal.fur, skull, snout, shade=0.2)
    if animal.pattern in ("bib", "points"):
        canvas.paint(_pale(animal), ellipse(long, 6, 20, 8, -6), within=mask)
    elif animal.pattern == "patches":
        canvas.paint(animal.marks, ellipse(3, -7, 9, 9), within=mask)
    canvas.line(NEAR_BLACK, [(long - 2, 4), (long - 8, 5.5), (long - 14, 4.5)], 2.2)
    canvas.paint(NEAR_BLACK, ellipse(long - 1, -2.5, 4.4, 3.7), outline=0)
    _eye(canvas, 6, -7, 2.7, animal.eyes, slit=False)
    ear = blob("-8,-17 0,-14 2,-2 -1,12 -8,15 -13,7 -13,-6")
    canvas.paint(_ear_colour(animal), ear, shade=0.2)


def dog_tail(canvas: Canvas, animal: Animal, up: bool) -> None:
    """Short, held up, thicker where it begins, from (0, 0)."""
    lift = animal.rng.uniform(16, 24) if up else animal.rng.uniform(6, 16)
    mask = canvas.paint(animal.fur, limb(f"4,1 -8,{-0.35 * lift} -14,{-lift}", 4.6, 1.8))
    if animal.pattern != "plain":
        canvas.paint(_pale(animal), ellipse(-15, -lift, 7, 7), within=mask)


def _collar(canvas: Canvas, animal: Animal, points: Points) -> None:
    if animal.collar:
        canvas.paint(animal.collar, limb(points, 2.3, 2.3), outline=1.6)
        x, y = _points(points)[1]
        canvas.paint((250, 214, 96), ellipse(x, y + 3.4, 2.3, 2.3), outline=1.6)


def _paws(canvas: Canvas, animal: Animal, *shapes: Shape) -> None:
    """Legs with their outline, and paws of another colour where the coat has any."""
    mask = canvas.paint(animal.fur, *shapes)
    if animal.pattern in ("bib", "points"):
        colour = animal.marks if animal.pattern == "points" else _pale(animal)
        low = max(shape.points[:, 1].max() for shape in shapes)
        canvas.paint(colour, box(-60, low - 5, 60, 60), within=mask)


def _head(canvas: Canvas, animal: Animal, look: float) -> None:
    """At (0, 0), a little smaller or larger, and held a little to one side."""
    size, turn = animal.rng.uniform(0.91, 1.09), animal.rng.uniform(-9, 9)
    animal.head(canvas.at(0, 0, size, turn), animal, look)


def sit(canvas: Canvas, animal: Animal) -> None:
    """Seen from the side, facing right."""
    leg = animal.leg
    animal.tail(canvas.at(-17, 33), animal, False)
    trunk = blob("6,-16 14,-6 17,10 13,34 -8,38 -22,34 -22,18 -14,2 -6,-12")
    mask = canvas.paint(animal.fur, trunk, shade=0.25)
    coat(canvas, animal, mask)
    _paws(canvas, animal, limb("5,12 6,36", leg, leg), limb("6,37 9,37", leg, leg))
    _paws(canvas, animal, limb("13,8 14,36", leg, leg), limb("14,37 18,37", leg, leg))
    _paws(canvas, animal, ellipse(-11, 28, 11, 10), limb("-10,37 -1,37", leg, leg))
    _collar(canvas, animal, "-4,-9 6,-4 14,-9")
    _head(canvas.at(7, -22, 0.95), animal, animal.rng.choice([0.3, 1, 1]))


def front(canvas: Canvas, animal: Animal) -> None:
    """Sitting, seen from the front."""
    leg = animal.leg + 0.4
    animal.tail(canvas.at(-14, 34), animal, False)
    _paws(canvas, animal, *both(ellipse(-13, 31, 8, 8)), *both(limb("-15,37 -10,38", leg, leg)))
    trunk = symmetric("0,-14 10,-8 14,8 15,30 0,36")
    mask = canvas.paint(animal.fur, trunk, shade=0.2)
    coat(canvas.at(-14, 0, 0.85), animal, mask)
    legs, paws = limb("-6,14 -6,37", leg, leg), ellipse(-6, 37, leg + 1, leg)
    _paws(canvas, animal, *both(legs), *both(paws))
    canvas.line(darker(animal.fur, 0.62), "0,22 0,38", 3)
    _collar(canvas, animal, "-9,-8 0,-4 9,-8")
    _head(canvas.at(0, -22, 1.08), animal, animal.rng.uniform(-0.4, 0.4))


def stand(canvas: Canvas, animal: Animal) -> None:
    """Standing or walking, facing right; the legs reach from the trunk to y = 40."""
    rng, leg = animal.rng, animal.leg
    trunk_at = canvas.at(-3, 28 - animal.tall)
    step, low = rng.uniform(-4, 4), animal.tall + 8.5
    animal.tail(trunk_at.at(-23, -2), animal, True)
    far = animal._replace(fur=darker(animal.fur, 0.22))
    _paws(trunk_at, far, limb([(-16, 4), (-14 - step, low - 1)], leg, leg * 0.8))
    _paws(trunk_at, far, limb([(15, 4), (14 + step, low - 1)], leg, leg * 0.8))
    for x, move in ((-22, step), (20, -step)):
        upper = limb([(x, 4), (x + 0.5 * move, 0.5 * low), (x + move, low)], leg + 1.5, leg * 0.8)
        paw = limb([(x + move, low), (x + move + 3, low)], leg * 0.8, leg * 0.8)
        _paws(trunk_at, animal, upper, paw)
    neck = limb("16,0 25,-14", 10, 8)
    trunk = blob("-27,2 -23,-9 -5,-9 14,-12 25,-5 24,8 12,13 -8,10 -22,12")
    mask = trunk_at.paint(animal.fur, trunk, neck, shade=0.25)
    coat(trunk_at, animal, mask)
    _collar(trunk_at, animal, "16,-10 24,-6 31,-10")
    _head(trunk_at.at(27, -19, 0.85), animal, rng.choice([0.4, 1, 1]))


def lie(canvas: Canvas, animal: Animal) -> None:
    """Lying, facing right, the fore legs stretched out."""
    leg = animal.leg
    animal.tail(canvas.at(-30, 34), animal, False)
    _paws(canvas, animal, limb("12,30 34,35", leg + 1, leg))
    trunk = blob("-36,32 -33,16 -18,8 2,8 18,6 24,18 20,36 -8,38 -30,38")
    mask = canvas.paint(animal.fur, trunk, shade=0.25)
    coat(canvas.at(-6, 20, 1.1), animal, mask)
    _paws(canvas, animal, limb("10,34 32,38", leg + 1, leg))
    _paws(canvas, animal, ellipse(-22, 28, 12, 10), limb("-22,37 -10,38", leg, leg))
    _collar(canvas, animal, "8,8 17,13 25,9")
    _head(canvas.at(18, -3), animal, animal.rng.choice([0.3, 1]))


def portrait(canvas: Canvas, animal: Animal) -> None:
    """Head and shoulders."""
    chest = symmetric("0,4 18,12 28,36 30,70")
    mask = canvas.paint(animal.fur, chest, shade=0.2)
    coat(canvas.at(-10, 38, 1.1), animal, mask)
    _collar(canvas, animal, "-17,20 0,27 17,20")
    _head(canvas.at(0, -5, 1.62), animal, animal.rng.choice([-0.6, 0, 0.6, 1]))


# Birds.


class Bird(NamedTuple):
    """What a bird looks like, in any pose."""

    rng: random.Random
    body: Colour
    belly: Colour
    wing: Colour
    beak: Colour
    bill: float  # its length
    crest: bool
    mask: bool  # a dark band through the eye
    leg: Colour

    @property
    def colours(self) -> tuple[Colour, Colour]:
        """The two that must show on the background."""
        return self.body, self.wing


def bird(rng: random.Random) -> Bird:
    body = rng.choice(FUR if rng.random() < 0.6 else BRIGHT)
    belly = rng.choice([c for c in [*FUR, *BRIGHT[:3]] if difference(c, body) > 60])
    wing = rng.choice([darker(body, 0.35), darker(body, 0.35), _marks(rng, body)])
    beak = rng.choice([(244, 160, 50), (250, 196, 70), (96, 88, 92), (226, 108, 70)])
    bill, crest = rng.uniform(11, 19), rng.random() < 0.25
    leg = rng.choice([(236, 150, 60), (150, 96, 70), (84, 76, 80)])
    return Bird(rng, body, belly, wing, beak, bill, crest, rng.random() < 0.3, leg)


def bird_head(canvas: Canvas, bird: Bird) -> None:
    """Beak, eye, crest and what marks the face, on a head of radius 13 that is there already."""
    long = 11 + bird.bill
    canvas.paint(bird.beak, blob(f"9,-5.5 {0.6 * long},-4 {long},1.5 {0.6 * long},4.5 9,6"))
    canvas.line(darker(bird.beak, 0.5), f"10,0.6 {long - 2},1.4", 1.8)
    skull = canvas.paint(bird.body, ellipse(0, 0, 13, 12.6), outline=0)
    if bird.mask:
        canvas.paint(darker(bird.body, 0.6), ellipse(6, -1.6, 11, 3.4, 6), within=skull)
    else:
        canvas.paint(bird.belly, ellipse(6, 9, 9, 7), within=skull)
    canvas.paint(WHITE, ellipse(4.4, -2.4, 3.9, 3.9), outline=0)
    canvas.paint(NEAR_BLACK, ellipse(4.8, -2.4, 3.1, 3.1), outline=0)
    canvas.paint(WHITE, ellipse(5.6, -3.7, 1, 1), outline=0)


def _crest(canvas: Canvas, bird: Bird) -> None:
    if bird.crest:
        tuft = blob("4,-10 -2,-18 -14,-23 -11,-15 -16,-12 -8,-6")
        canvas.paint(bird.wing, tuft)


def _tail_feathers(canvas: Canvas, bird: Bird, long: float, fan: float) -> None:
    """Three feathers from (0, 0) to the left, `fan` degrees between them."""
    for turn in (-fan, fan, 0):
        feather = blob(f"6,-3 {-0.7 * long},-4.4 {-long},-2 {-long},2 {-0.7 * long},4.4 6,3")
        canvas.at(0, 0, 1, turn).paint(bird.wing if turn else darker(bird.wing, 0.15), feather)


def _bird_legs(canvas: Canvas, bird: Bird, hips: Sequence[Point], foot: float) -> None:
    """Thin legs with three toes."""
    for x, y in hips:
        below = x + 2
        canvas.line(darker(bird.leg, 0.6), [(x, y), (below, foot)], 6.4)
        canvas.line(bird.leg, [(x, y), (below, foot)], 3.6)
        for toe in (-5, 3, 7):
            canvas.line(bird.leg, [(below, foot - 0.5), (below + toe, foot + 1.6)], 3.4)


def _folded_wing(canvas: Canvas, bird: Bird) -> None:
    wing = blob("8,-8 11,0 4,9 -10,13 -30,16 -22,6 -12,-6")
    mask = canvas.paint(bird.wing, wing, outline=2.6, shade=0.2)
    for y in (2, 7):
        edge = limb(f"4,{y} -8,{y + 4} -26,{y + 7}", 0.8, 0.8)
        canvas.paint(darker(bird.wing, 0.4), edge, within=mask)


def perch(canvas: Canvas, bird: Bird) -> None:
    """Seen from the side, facing right, on its feet."""
    rng = bird.rng
    _tail_feathers(canvas.at(-18, 15, 1, rng.uniform(-24, 10)), bird, rng.uniform(20, 29), 9)
    _bird_legs(canvas, bird, [(-2, 20), (6, 19)], 38)
    _crest(canvas.at(13, -18), bird)
    trunk, head = ellipse(-1, 5, 25, 17, -32), ellipse(13, -18, 13, 12.6)
    mask = canvas.paint(bird.body, trunk, head, shade=0.15)
    canvas.paint(bird.belly, ellipse(13, 12, 14, 21, 38), within=mask)
    bird_head(canvas.at(13, -18, 1, rng.uniform(-12, 12)), bird)
    _folded_wing(canvas.at(-3, 4, 0.95, rng.uniform(-22, -8)), bird)


def wade(canvas: Canvas, bird: Bird) -> None:
    """On long legs, with a long neck."""
    rng = bird.rng
    _tail_feathers(canvas.at(-22, 4, 0.9, rng.uniform(-12, 12)), bird, rng.uniform(14, 20), 9)
    _bird_legs(canvas, bird, [(-5, 12), (5, 12)], 39)
    high = rng.uniform(-33, -27)
    neck = limb(f"12,0 22,-10 14,-20 17,{high}", 6.4, 4.6)
    trunk, head = ellipse(-3, 2, 23, 13, -10), ellipse(18, high, 9.1, 8.8)
    _crest(canvas.at(18, high, 0.7), bird)
    mask = canvas.paint(bird.body, trunk, neck, head, shade=0.15)
    canvas.paint(bird.belly, ellipse(6, 14, 20, 9, -18), within=mask)
    bird_head(canvas.at(18, high, 0.7, rng.uniform(-4, 14)), bird._replace(bill=bird.bill + 12))
    _folded_wing(canvas.at(-4, 0, 0.8, rng.uniform(-14, 0)), bird)


def _spread_wing(canvas: Canvas, colour: Colour) -> None:
    """A wing from (0, 0) upwards, with the tips of its feathers to the left."""
    wing = blob("9,3 7,-19 -2,-38 -9,-39 -10,-34 -16,-31 -15,-25 -20,-20 -17,-14 -19,-8 -12,4")
    mask = canvas.paint(colour, wing, shade=0.25)
    for tip in ("-12,-34", "-16,-25", "-18,-15"):
        canvas.paint(darker(colour, 0.35), limb(f"0,-3 {tip}", 0.9, 0.9), within=mask)


def fly(canvas: Canvas, bird: Bird) -> None:
    """Seen from the side, facing right, the wings raised or beating down."""
    rng = bird.rng
    canvas = canvas.at(0, 4, 1, rng.uniform(-22, 6))
    high, long = rng.random() < 0.65, rng.uniform(0.86, 1.04)
    _tail_feathers(canvas.at(-20, 4, 1, rng.uniform(-6, 8)), bird, rng.uniform(18, 24), 14)
    far = rng.uniform(14, 30) if high else rng.uniform(5, 20)
    _spread_wing(canvas.at(8, -5, 0.86 * long, far), darker(bird.wing, 0.2))
    _crest(canvas.at(24, -5, 0.85), bird)
    trunk, head = ellipse(0, 2, 26, 12.5, -6), ellipse(24, -5, 11, 10.7)
    mask = canvas.paint(bird.body, trunk, head, shade=0.15)
    canvas.paint(bird.belly, ellipse(6, 13, 24, 9, -10), within=mask)
    bird_head(canvas.at(24, -5, 0.85), bird)
    if high:
        _spread_wing(canvas.at(1, 2, long, rng.uniform(-24, 0)), bird.wing)
    else:  # upside down, the feathers still to the left
        down = 180 + rng.uniform(-10, 14)
        _spread_wing(canvas.at(1, -2, 0.9 * long, down, mirror=True), bird.wing)


def front_perch(canvas: Canvas, bird: Bird) -> None:
    """On its feet, seen from the front."""
    rng = bird.rng
    _tail_feathers(canvas.at(rng.uniform(-5, 5), 24, 0.8, -90), bird, 20, 14)
    _bird_legs(canvas, bird, [(-9, 24), (5, 24)], 38)
    if bird.crest:
        canvas.paint(bird.wing, *(limb([(0, -24), (x, -38)], 2.4, 1.6) for x in (-6, 0, 6)))
    trunk, head = ellipse(0, 8, 23, 22), ellipse(0, -14, 17, 15.5)
    mask = canvas.paint(bird.body, trunk, head, shade=0.15)
    canvas.paint(bird.belly, ellipse(0, 15, 15, 19), within=mask)
    canvas.paint(bird.wing, *both(blob("18,-3 24,3 27,14 23,24 18,13")), outline=2.6, shade=0.2)
    front = canvas.at(rng.uniform(-3, 3), -13, 1, rng.uniform(-8, 8))
    if bird.mask:
        front.paint(lighter(bird.body, 0.6), *both(ellipse(7, -1, 7.4, 8.4, -12)), outline=0)
    for x in (-7.5, 7.5):
        front.paint(WHITE, ellipse(x, -3, 4.8, 4.8), outline=0)
        front.paint(NEAR_BLACK, ellipse(x, -3, 3.9, 3.9), outline=0)
        front.paint(WHITE, ellipse(x + 1, -4.6, 1.3, 1.3), outline=0)
    front.paint(bird.beak, polygon("-5,0.5 0,-2 5,0.5 0,9.5"), outline=2)
    front.line(darker(bird.beak, 0.5), "-3.6,2 0,3 3.6,2", 1.8)


def bust(canvas: Canvas, bird: Bird) -> None:
    """Head and breast from the side."""
    _crest(canvas.at(-6, -10, 1.9), bird)
    chest = blob("-20,-6 6,-4 16,14 22,44 14,74 -44,74 -36,30")
    mask = canvas.paint(bird.body, chest, ellipse(-4, -10, 13 * 1.8, 12.6 * 1.8), shade=0.15)
    canvas.paint(bird.belly, ellipse(14, 40, 18, 32, -12), within=mask)
    wing = blob("-20,30 -4,40 -6,60 -18,80 -50,80 -40,40")
    canvas.paint(bird.wing, wing, outline=2.6, shade=0.2)
    bird_head(canvas.at(-4, -10, 1.8, bird.rng.uniform(-10, 10)), bird)


# Where they are.


def backdrop(rng: random.Random, colours: Sequence[Colour]) -> tuple[Image.Image, str]:
    """A wall, the sky or leaves, on which the colours show; and which of them it is."""
    kind = rng.choice(["wall", "sky", "sky", "leaves"])
    tries = [_backdrop_colours(rng, kind) for _ in range(5)]
    top, bottom = max(
        tries, key=lambda pair: min(difference(mix(*pair, 0.5), colour) for colour in colours)
    )
    ramp = Image.linear_gradient("L").resize((DRAWN, DRAWN))
    image = Image.new("RGB", ramp.size, top)
    image.paste(bottom, mask=ramp)
    decorate = {"wall": _wallpaper, "sky": _weather, "leaves": _leaves}[kind]
    decorate(rng, Canvas(image), top, bottom)
    return image, kind


def _backdrop_colours(rng: random.Random, kind: str) -> Sequence[Colour]:
    """Of the top and of the bottom."""
    if kind == "sky":
        return rng.choice(SKIES)
    if kind == "wall":
        top = rng.choice(WALLS)
        return top, mix(top, rng.choice(WALLS), 0.3)
    top = mix(rng.choice(GROUNDS), rng.choice(BRIGHT), 0.25)
    return top, darker(top, rng.uniform(0, 0.35))


def _wallpaper(rng: random.Random, canvas: Canvas, top: Colour, bottom: Colour) -> None:
    """Stripes, dots, a window or nothing."""
    kind, light = rng.choice(["stripes", "dots", "window", "plain"]), lighter(top, 0.3)
    if kind == "stripes":
        wide = rng.uniform(5, 9)
        stripes = [box(x, -50, x + wide, 50) for x in np.arange(-6, 7) * 2 * wide]
        canvas.paint(light, *stripes, outline=0)
    elif kind == "dots":
        places = [(16 * i - 46 + 8 * (j % 2), 16 * j - 48) for i in range(7) for j in range(7)]
        canvas.paint(light, *(ellipse(x, y, 2.4, 2.4) for x, y in places), outline=0)
    elif kind == "window":
        inner = canvas.at(rng.choice([-30, 30]) + rng.uniform(-6, 6), rng.uniform(-32, -24))
        sky = rng.choice(DAY + EVENING)[0]
        inner.paint(WHITE, box(-16, -17, 16, 17), outline=1.5)
        for x, y in ((-13, -14), (1.2, -14), (-13, 1.2), (1.2, 1.2)):
            inner.paint(sky, box(x, y, x + 11.8, y + 12.8), outline=0)


def _weather(rng: random.Random, canvas: Canvas, top: Colour, bottom: Colour) -> None:
    """Clouds, the sun or the moon, stars at night."""
    night = sum(top) < 300
    if rng.random() < 0.5:
        x, y = rng.choice([-34, 34]) + rng.uniform(-6, 6), rng.uniform(-42, -32)
        canvas.paint((250, 244, 214) if night else (255, 226, 120), ellipse(x, y, 8, 8), outline=0)
    if night:
        for _ in range(18):
            star = ellipse(rng.uniform(-50, 50), rng.uniform(-50, 20), 0.8, 0.8)
            canvas.paint((250, 246, 220), star, outline=0)
    for _ in range(rng.randint(0, 3)):
        x, y = rng.uniform(-46, 46), rng.uniform(-44, 0)
        puffs = ellipse(x - 8, y, 5, 4), ellipse(x, y - 3, 7, 6), ellipse(x + 8, y, 5, 4)
        canvas.paint(lighter(bottom, 0.15 if night else 0.6), *puffs, outline=0)


def _leaves(rng: random.Random, canvas: Canvas, top: Colour, bottom: Colour) -> None:
    """Soft round lights, as behind a long lens."""
    for _ in range(16):
        light = mix(top, rng.choice([WHITE, *BRIGHT, *GROUNDS]), rng.uniform(0.1, 0.3))
        r = rng.uniform(4, 11)
        canvas.paint(light, ellipse(rng.uniform(-50, 50), rng.uniform(-50, 50), r, r), outline=0)


def ground(
    rng: random.Random, canvas: Canvas, level: float, colours: Sequence[Colour], indoors: bool
) -> None:
    """A floor, or grass, sand or snow, up to the height `level`, and what grows or lies there."""
    choice = FLOORS if indoors else GROUNDS
    colour = rng.choice([c for c in choice if min(difference(c, other) for other in colours) > 45])
    if indoors:
        canvas.paint(colour, box(-60, level, 60, 60), outline=0, shade=0.25)
        canvas.paint(lighter(colour, 0.5), box(-60, level - 2, 60, level), outline=0)
        return
    hill = rng.uniform(-6, 6)
    land = f"-75,{level - hill} 0,{level - abs(hill) / 2} 75,{level + hill} 90,90 -90,90"
    canvas.paint(colour, blob(land), outline=0, shade=0.25)
    green = colour in GRASS
    for _ in range(rng.randint(6, 14) if green else 0):
        x, y = rng.uniform(-50, 50), rng.uniform(level + 5, 50)
        canvas.line(darker(colour, 0.25), [(x, y), (x + rng.uniform(-2, 2), y - 5)], 2.6)
    for _ in range(rng.choice([0, 0, 3, 5])):
        spot = canvas.at(rng.uniform(-50, 50), rng.uniform(level + 6, 48))
        if green:
            petals = [ellipse(a, b, 1.5, 1.5) for a, b in ((-2, 0), (2, 0), (0, -2), (0, 2))]
            spot.paint(rng.choice(BRIGHT), *petals, outline=0)
            spot.paint(WHITE, ellipse(0, 0, 1.2, 1.2), outline=0)
        else:
            spot.paint(darker(colour, 0.2), ellipse(0, 0, rng.uniform(1.5, 3), 1.2), outline=0)


def branch(rng: random.Random, canvas: Canvas) -> None:
    """A branch with leaves along y = 0."""
    bark, tilt = rng.choice([(132, 92, 66), (104, 80, 70), (160, 126, 92)]), rng.uniform(-3, 3)
    canvas.paint(bark, limb(f"-70,{5 + tilt} 0,4 70,{5 - tilt}", 4.5, 3.6), shade=0.3)
    for _ in range(rng.randint(1, 4)):
        x, side = rng.choice([-1, 1]) * rng.uniform(22, 46), rng.choice([-1, 1])
        colour = rng.choice([*GRASS, BRIGHT[2], BRIGHT[3]])
        canvas.paint(colour, ellipse(x, 4 + 8 * side, 3.4, 6.4, 30 * side), outline=2)


def fence(rng: random.Random, canvas: Canvas) -> None:
    """A wooden fence, its rail along y = 0."""
    wood = rng.choice([(240, 234, 222), (176, 132, 94), (146, 116, 98)])
    for x in range(-42, 60, 21):
        canvas.paint(wood, box(x - 5, 5, x + 5, 70))
    canvas.paint(wood, box(-70, 1, 70, 9))


def cushion(rng: random.Random, canvas: Canvas) -> None:
    """A round cushion, its middle at y = 0."""
    cloth = rng.choice(BRIGHT)
    canvas.paint(cloth, ellipse(0, 3, 40, 9), shade=0.3)
    canvas.line(darker(cloth, 0.3), "-36,4 0,8 36,4")


def toy(rng: random.Random, canvas: Canvas) -> None:
    """A ball, a flower or a butterfly beside the figure."""
    colour, side = rng.choice(BRIGHT), rng.choice([-1, 1])
    kind = rng.choice(["ball", "flower", "butterfly"])
    if kind == "ball":
        ball = canvas.at(38 * side, 38)
        mask = ball.paint(colour, ellipse(0, 0, 7, 7), outline=2.6, shade=0.3)
        ball.paint(WHITE, limb("-7,-2 0,1 7,-2", 1.6, 1.6), within=mask)
    elif kind == "flower":
        flower = canvas.at(40 * side, 22)
        flower.line((84, 140, 76), f"0,24 {side},14 0,2", 4)
        petals = [flower.at(0, 0, 1, turn) for turn in range(0, 360, 60)]
        for outline in (2, 0):
            for petal in petals:
                petal.paint(colour, ellipse(4.6, 0, 3.4, 3.4), outline=outline)
        flower.paint((250, 214, 96), ellipse(0, 0, 3, 3), outline=0)
    else:
        wings = canvas.at(40 * side, rng.uniform(-40, -28), 1, rng.uniform(-30, 30))
        upper, lower = ellipse(4, -3, 4.4, 4, 30), ellipse(3.4, 3, 3, 3)
        wings.paint(colour, *both(upper), *both(lower), outline=2)
        wings.paint(NEAR_BLACK, ellipse(0, 0, 1, 5), outline=0)


# Pictures.

KINDS = {"bird": bird, "cat": cat, "dog": dog}
POSES = {
    "bird": [perch, fly, front_perch, perch, bust, fly, wade, perch, fly, perch],
    "cat": [sit, stand, front, portrait, lie],
    "dog": [stand, sit, front, portrait, lie],
}


def picture(name: str, label: str, number: int) -> Image.Image:
    """The picture of a name, such as "train/cat/07", which is the seed of all that varies in it."""
    rng = random.Random(name)
    figure = KINDS[label](rng)
    pose = POSES[label][number % len(POSES[label])]
    image, kind = backdrop(rng, figure.colours)
    size = rng.uniform(0.78, 1)
    x, y = rng.uniform(-1, 1) * (16 - 10 * size), rng.uniform(-3, 3) + 14 * (1 - size)
    scene, feet = Canvas(image), y + 40 * size
    if pose in (portrait, bust, fly):
        if rng.random() < 0.5:
            ground(rng, scene, rng.uniform(20, 38), figure.colours, kind == "wall")
    elif kind != "wall" and rng.random() < 0.35:
        rng.choice([branch, branch, fence])(rng, scene.at(0, feet))
    else:
        ground(rng, scene, feet - rng.uniform(6, 26), figure.colours, kind == "wall")
        if kind == "wall" and rng.random() < 0.3:
            cushion(rng, scene.at(x, feet, size))
        shadow = scene.mask([ellipse(x, feet + 1, 26 * size, 4 * size)])
        image.paste(NEAR_BLACK, mask=shadow.point(lambda v: v // 4))
    if rng.random() < 0.3:
        toy(rng, scene)
    turn = 0 if pose in (portrait, bust) else rng.uniform(-3, 3)
    pose(scene.at(x, y, size, turn, mirror=rng.random() < 0.5), figure)
    return finished(image, rng.getrandbits(32))


def finished(image: Image.Image, seed: int) -> Image.Image:
    """Averaged down to its size, with a little noise; NumPy never changes RandomState's numbers."""
    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=float)
    noise = np.random.RandomState(seed).normal(0, 2, (SIDE, SIDE, 1))
    return Image.fromarray(np.clip(np.rint(small + noise), 0, 255).astype(np.uint8))


def main(folder: Path) -> None:
    for split, count in COUNTS.items():
        for label in KINDS:
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                name = f"{split}/{label}/{number:02}"
                picture(name, label, number).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parent / "images"
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    main(parser.parse_args().folder)
