"""The words of the invented world; each is one token of the pair's tokenizer.

No word occurs twice, nor in the prompt's instructions, so that a word's place in a prompt is a
place in its token ids too.
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _words(
    "Ada Boris Clara Dmitri Elena Felix Greta Hugo Ines Jonas Karin Leon Mona Nils "
    "Olga Pablo Quinn Rosa Stefan Tara Ulrich Vera Wanda Yuri"
)

LAST_NAMES = _words(
    "Abbott Barlow Castle Dalton Ellery Forbes Garner Hobson Ingram Jarvis Keller "
    "Lambert Mercer Norton Osborne Parker Quigley Ramsey Sawyer Thorne Upton Vaughn "
    "Wexler Yates"
)

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "color": _words(
        "amber beige crimson denim ebony fuchsia golden hazel indigo jade khaki lilac "
        "maroon navy ochre purple"
    ),
    "animal": _words(
        "badger camel dolphin eagle falcon gecko heron iguana jackal koala lemur "
        "moose newt otter panther rabbit"
    ),
    "city": _words(
        "Athens Berlin Cairo Dublin Essen Florence Geneva Havana Istanbul Jakarta "
        "Kyoto Lisbon Madrid Nairobi Oslo Prague"
    ),
    "fruit": _words(
        "apple banana cherry date elderberry fig grape honeydew jackfruit kiwi lemon "
        "mango nectarine orange papaya quince"
    ),
    "instrument": _words(
        "accordion bassoon cello drum flute guitar harp kazoo lute mandolin oboe "
        "piano recorder saxophone trumpet violin"
    ),
    "tool": _words(
        "axe brush chisel drill file hammer jigsaw knife level mallet pliers rasp saw "
        "trowel vise wrench"
    ),
}
"""What a person can be asked about, and the sixteen values each may take."""
