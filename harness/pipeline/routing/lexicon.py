"""The words that the scores look for. All lower case; reviews are folded before the lookup."""

from collections.abc import Mapping
from types import MappingProxyType


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


POSITIVE = _words(
    """amazing awesome beautiful best better brilliant charming comfortable delicious delight
    delighted easy enjoy enjoyable enjoyed excellent fabulous fantastic fast favorite fine fun
    glad good great happy helpful impressed impressive incredible like liked love loved lovely
    nice outstanding perfect perfectly pleasant pleased recommend recommended reliable satisfied
    solid sturdy super superb terrific thrilled useful well wonderful worth"""
)
NEGATIVE = _words(
    """angry annoying awful bad boring break broke broken cheap cheaply complain complaint
    confusing crap defective difficult disappointed disappointing disappointment dull fail
    failed fails failure faulty flaw flawed flimsy frustrated frustrating garbage hard hate
    hated horrible issue issues junk lacking lousy mediocre mess noisy poor poorly problem
    problems refund regret return returned ruined sad slow sorry stupid terrible trouble ugly
    unfortunately unhappy useless waste wasted weak worse worst wrong"""
)
CONTRAST = _words(
    """although but conversely despite even except however nevertheless nonetheless otherwise
    rather still though whereas while yet"""
)
CONDITIONAL = _words(
    """assuming could depend depending depends if might otherwise provided should supposed
    unless whenever whether would"""
)
HEDGES = _words(
    """almost apparently appears arguably basically bit decent fairly generally guess kinda
    likely little mainly maybe mostly occasionally often okay overall partially partly perhaps
    possibly pretty probably quite rarely relatively seem seemed seems slightly some sometimes
    somewhat sort suppose supposedly think usually"""
)
COMPARISON = _words(
    """alternative alternatively compare compared compares comparing comparison contrast differs
    equivalent inferior instead outperforms previous prior replaced replaces rival similar
    similarly superior than unlike upgrade upgraded versus vs whereas"""
)
UNITS = _words(
    """ah amp amps bit bits btu cal calories cm db dpi feet foot fps ft g gb ghz gig gigs gram
    grams hp hz inch inches kb kbps kg khz km kw lb lbs lumens mah mb mbps megapixel megapixels
    mg mhz ml mm mp ohm ohms ounce ounces oz pixels ports psi px quart quarts rpm tb v volt
    volts w watt watts"""
)

GENERAL = _words(
    """adjust adjustable assemble assembly battery button calibrate capacity compatible
    component configuration control defect design dimensions display durability efficiency
    feature features firmware function functionality ingredient install installation
    instructions maintenance manual material materials mechanism model motor option options
    parts performance plastic power precision pressure quality replacement sensor settings setup
    software specifications speed stainless steel switch technical technology temperature
    troubleshoot version voltage warranty weight"""
)
_ELECTRONICS = _words(
    """adapter amplifier analog antenna audio bandwidth bass battery bios bluetooth cable camera
    card charger charging codec computer connection connector cord cpu device digital dock
    driver drivers ethernet firewire flash frequency gps hardware hdmi headphones headset input
    interface ipod keyboard lan laptop latency lcd led lens memory microphone modem monitor
    mouse mp3 network optical output pc phone pixel playback player plug port printer processor
    ram receiver reception remote resolution router scanner screen signal sound speaker speakers
    static stereo storage subwoofer tivo tuner tv usb video volume wifi windows wire wired
    wireless xp zoom"""
)
_KITCHEN = _words(
    """aluminum bake baking blade blades blender bowl bpa burner carafe ceramic chopper coating
    coffee cook cooker cooking cookware dishwasher filter fryer glass grinder handle heat
    heating iron kettle knife knives lid microwave mixer nonstick oven pan pans pitcher pot pots
    processor rust seal stove teflon thermometer thermostat timer toaster vacuum"""
)
_BOOKS = _words(
    """academic analysis argument author bibliography chapter chapters character characters
    concept concepts editing edition essay evidence examples fiction genre grammar history index
    narrative narrator novel philosophy plot prose protagonist reference references research
    scholarly series style textbook theme themes theory thesis translation writer writing"""
)
_SCREEN = _words(
    """acting actor actors adaptation anamorphic animation aspect bluray cast character
    characters cinematography commentary cut dialogue director disc discs dts dub dubbed dvd
    edit editing effects episode episodes extras footage format fullscreen letterbox lighting
    plot ratio remastered resolution restoration scene scenes score screenplay script soundtrack
    subtitles surround transfer vhs widescreen"""
)
_MUSIC = _words(
    """acoustic album arrangement bass cd chord chords composition drums guitar harmony
    instrumental lyrics mastering melody mix mixing orchestra piano producer production
    recording rhythm soundtrack studio tempo tone track tracks vinyl vocal vocals"""
)
_BEAUTY = _words(
    """acid alcohol allergic aloe antioxidant chemical chemicals conditioner cream dermatologist
    dye extract formula fragrance gel hypoallergenic irritation keratin lather lotion moisture
    moisturizer oil paraben parabens ph residue retinol scalp scent serum shampoo silicone skin
    spf sulfate sulfates texture vitamin"""
)
_FASHION = _words(
    """arch breathable buckle cotton cushion elastic fabric fit fits fitting heel insole lace
    laces leather lining nylon orthotic polyester rubber seam seams size sizes sizing sleeve
    sole soles spandex stitching strap straps support synthetic traction waist waterproof width
    wool zipper"""
)
_GROCERY = _words(
    """acid additives aroma artificial brew caffeine calorie calories carbs cholesterol corn
    diabetic dietary digest fat fiber flavor fructose gluten gmo ingredients kosher msg
    nutrition nutritional organic pesticides preservatives protein roast sodium soy sugar
    sweetener syrup texture vegan vitamin vitamins wheat"""
)
_GIFT_CARDS = _words(
    """account activate activated activation amount balance code codes credit delivered delivery
    denomination email emailed expiration expire fee fees online pin print printed receipt
    redeem redeemed"""
)

# Every table includes the general words; a category that is not listed has those alone.
KEYWORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        category: GENERAL | words
        for category, words in {
            "electronics": _ELECTRONICS,
            "kitchen": _KITCHEN,
            "books": _BOOKS,
            "dvd": _SCREEN,
            "video": _SCREEN,
            "music": _MUSIC,
            "beauty": _BEAUTY,
            "fashion": _FASHION,
            "grocery": _GROCERY,
            "gift_cards": _GIFT_CARDS,
        }.items()
    }
)

# How much technical knowledge a review of the category asks of its reader: our own judgement, from
# devices with data sheets (1) down to a voucher (.1). What is not listed counts as UNKNOWN_DOMAIN.
DOMAIN: Mapping[str, float] = MappingProxyType(
    {
        "electronics": 1.0,
        "software": 0.9,
        "automotive": 0.8,
        "tools": 0.75,
        "appliances": 0.7,
        "health": 0.65,
        "kitchen": 0.55,
        "sports": 0.5,
        "beauty": 0.45,
        "books": 0.4,
        "grocery": 0.35,
        "toys": 0.35,
        "music": 0.3,
        "dvd": 0.3,
        "video": 0.3,
        "fashion": 0.25,
        "gift_cards": 0.1,
    }
)
UNKNOWN_DOMAIN = 0.5
