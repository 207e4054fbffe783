"""Plots about friends: sharing, gifts, games, trades and quarrels."""

from .plot import Plot
from .sums import STORY_PAIRS
from .words import NUMBERS, PLACES, THINGS_MANY, TOYS, TOY_COLOURS

FOODS = ["a piece of bread", "an apple", "a pear", "a cheese pie", "a big cookie", "a honey cake"]


def story_sum(rng):
    """Two small numbers in words, their sum, and things to count."""
    first, second = rng.choice(STORY_PAIRS)
    return {"first": NUMBERS[first], "second": NUMBERS[second], "sum": NUMBERS[first + second],
            "things": rng.choice(THINGS_MANY)}


def two_toys(rng):
    mine, other = rng.sample(TOYS, 2)
    return {"mine": rng.choice(TOY_COLOURS) + " " + mine, "mine_short": mine,
            "other": rng.choice(TOY_COLOURS) + " " + other, "other_short": other}


PLOTS = [
    Plot("sharing", "any", {"food": FOODS, "at": PLACES, "luck": ["it was enough for two", "it tasted better than ever"]}, [
        "One {day}, {hero} [had {food} for lunch|took {food} along for lunch]. {He} sat down {at} and wanted to eat.",
        "Then {friend_full} came by. {Friend} [looked at the food|looked hungry|sat down] and said nothing.",
        "\"[What is wrong|Are you hungry|Why are you so quiet]?\" asked {hero}.",
        "\"[I have nothing to eat|I lost my lunch|I forgot my lunch],\" said {friend}. \"[I am so hungry|My belly is empty].\"",
        "{Hero} looked at the food. It was not very big, and {he} was hungry too. [{He} thought for a moment.|What should {he} do?|]",
        "Then {hero} [smiled|nodded]. \"We will share it,\" {he} said. \"[Half for you and half for me|One part is yours and one part is mine].\"",
        "\"{thanks}!\" said {friend}. They ate together, and {luck}.",
        "?They talked and laughed and watched the clouds.",
        "The next day, it [rained and was cold|was very hot]. This time {hero} had forgotten {his} lunch. {His} belly was empty.",
        "But {friend} came with a big basket. \"Yesterday you shared with me,\" said {friend}. \"Today I share with you!\"",
        "In the basket there were [nuts and apples|bread and cheese|plums and cookies]. {Hero} was {happy}.",
        "[They shared their lunch every day after that.|So both of them learned that it was good to share.|]",
    ]),
    Plot("a new friend", "any", {"at": PLACES, "game": ["hide and seek", "ball", "catch"]}, [
        "{Hero} had just come to live in a new place. {He} did not know anybody there and felt [alone|lonely].",
        "One {weather} {day}, {hero} went {to}. [Some others played there, but nobody saw {him}.|{He} sat under a tree alone.|]",
        "?\"I wish I had a friend,\" {he} [said|whispered].",
        "Then {he} heard somebody cry. It was {friend_long}. {Friend} had fallen and {fhis} [leg|foot|knee] hurt.",
        "{Hero} ran to help. \"[Give me your hand|Do not cry|I will help you],\" {he} said.",
        "{Hero} [washed the knee with water|put a soft leaf on it|held {fhis} hand] until it did not hurt any more.",
        "\"{thanks},\" said {friend}. \"I have never seen you here. What is your name?\"",
        "\"I am {hero},\" said {hero}. \"I am new here.\" \"[I am {friend}|My name is {friend}],\" said {friend}. \"Do you want to play {game}?\"",
        "\"[Yes, please|Yes, I do|Oh yes]!\" said {hero}. They played {game} [until supper|all {day}|until they were tired].",
        "?{Friend} showed {him} [the best tree to climb|where the sweet plums grew|a secret path].",
        "?\"Will you come again tomorrow?\" asked {friend}. \"[Of course|Yes, I will],\" said {hero}.",
        "That evening, {hero} told {his} {elder}, \"I have a friend!\" {He} was not [alone|lonely] any more.",
    ]),
    Plot("a birthday", "any", {"gift": ["a drawing", "a song", "a box of shells", "a paper star"], "plan": ["a party", "a surprise"]}, [
        "It was {hero}'s birthday. {He} [woke up early|jumped out of bed] and ran to the kitchen. But nobody was there.",
        "\"Did they forget my birthday?\" {hero} [asked|thought]. {He} was {sad}.",
        "{He} went to {friend_full}. \"Do you know what day it is?\" {he} asked. \"[It is a day like every other day|I am very busy today|I do not know],\" said {friend} and went away fast.",
        "{Hero} [walked home slowly|sat down on the steps|looked at the ground]. [\"Nobody thinks of me,\" {he} said.|It was the worst birthday of all.|]",
        "In the evening, {hero} opened the door of the house. It was dark. Then [the lamps went on|somebody lit the candles]!",
        "?\"Surprise!\" [everybody shouted|they all called]. There were {his} {elder}, {friend} and all {his} friends.",
        "?\"We did not forget,\" said {his} {elder}. \"We made {plan} for you.\"",
        "On the table there was a [big|round|sweet] cake with candles. {Hero} [closed {his} eyes and made a wish|blew out all the candles].",
        "{Friend} gave {him} {gift}. \"I made it for you,\" said {friend}. \"[I worked on it all day|I hope that you like it].\"",
        "\"[It is lovely|I love it|It is the best gift]!\" said {hero} and hugged {friend}.",
        "They [sang and danced|played games and ate cake] until it was late. It was the best birthday of all.",
    ]),
    Plot("a gift", "any", {"buy": ["a blue scarf", "a red cup", "a new hat", "a picture book"]}, [
        "{Hero} wanted to give {his} {elder} a gift. In the shop there was {buy}. [It was beautiful.|It was just right.]",
        "But {hero} had only one coin. \"[That is not enough|It costs three coins|You need more coins],\" said the woman in the shop.",
        "{Hero} went out. {He} was {sad}. \"[What is it|Why are you so sad]?\" asked {friend_full}.",
        "{Hero} told {friend} about the gift. \"[You can make one|A gift does not have to come from a shop|You can find a gift that costs nothing],\" said {friend}.",
        "They thought about it. Then they [went to the meadow|ran to the field] and picked [white|yellow|blue] flowers.",
        "{Hero} tied the flowers with a [red|long|green] string. {Friend} helped {him} to [write a letter|paint a card].",
        "At home, {hero} [held the flowers behind {his} back|hid the flowers behind the door]. \"Close your eyes,\" {he} said to {his} {elder}.",
        "\"Now open them!\" {hero} [called|said]. {His} {elder} saw the flowers and [smiled|was quiet for a moment].",
        "\"[They are beautiful|They smell so sweet|You made this for me]!\" said {his} {elder}. \"[It is better than all the things in a shop|I will keep the card as long as I live].\"",
        "?{His} {elder} put the flowers in [a cup|a jar] on the table and hugged {him}.",
        "{Hero} was {happy}. {He} still had {his} coin, so {he} bought a cookie and shared it with {friend}.",
    ]),
    Plot("a race", "any", {"end": ["the old tree", "the bridge", "the big stone", "the red gate"]}, [
        "{Hero} [was fast|could run very fast]. \"Nobody is as fast as I am,\" {he} said every day.",
        "{Friend_full} was [slow|not fast], but {friend} never gave up. \"Let us run a race,\" said {friend}. \"We will run to {end}.\"",
        "{Hero} laughed. \"[You can not win|I will win|That will be easy],\" {he} said.",
        "One, two, three, go! {Hero} ran [like the wind|very fast]. {Soon} {friend} was far behind.",
        "\"I have a lot of time,\" {hero} thought. {He} [sat down under a tree|lay down in the grass|stopped to eat some plums] and [fell asleep|closed {his} eyes].",
        "But {friend} ran on and on. {Friend} [did not stop|did not rest] and passed {hero}.",
        "When {hero} woke up, {he} [jumped up|ran as fast as {he} could]. But it was too late. {Friend} was at {end}!",
        "\"[Hurray|I did it]!\" {friend} [called|shouted]. All the friends clapped.",
        "{Hero} was [red in the face|quiet]. Then {he} [gave {friend} {his} hand|went to {friend}]. \"You won,\" {he} said. \"[I am sorry that I laughed|You ran well|I was silly].\"",
        "\"[Do you want to run again tomorrow|Let us run together now]?\" asked {friend}. They both laughed.",
        "After that day, {hero} [did not boast any more|never laughed at a slow friend again]. {He} and {friend} ran together and were {happy}.",
    ]),
    Plot("a trade", "any", {"toys": two_toys}, [
        "{Hero} had {a:mine}, and {friend_full} had {a:other}.",
        "[Every day|Often] {hero} looked at the {other_short}. \"[I like your {other_short}|Your {other_short} is so nice],\" said {hero}. \"And I like your {mine_short},\" said {friend}.",
        "\"Let us trade!\" said {hero}. So {hero} gave {friend} the {mine}, and {friend} gave {hero} the {other}.",
        "[At first|The first day], {hero} was {happy}. {He} played with the {other_short} [in the garden|in {his} room|all {day}].",
        "But at night, {he} thought of {his} {mine_short}. [{He} could not sleep.|{He} missed it.|] \"I want my {mine} back,\" {he} [said|whispered].",
        "?But a trade was a trade. [What could {he} do?|{Hero} did not want to break {his} word.]",
        "The next {day}, {hero} went to {friend}. {Friend} [looked sad too|sat at the window]. \"[What is wrong|Why are you sad]?\" asked {hero}.",
        "\"I miss my {other_short},\" said {friend}. {Hero} laughed. \"And I miss my {mine_short}!\" {he} said.",
        "So they traded back. {Hero} held the {mine} [in {his} arms|close]. {Friend} [hugged|held] the {other}.",
        "?\"[We can play with both|We can share them],\" said {friend}. \"Then nobody must miss a thing.\"",
        "And that was what they did. They [were good friends|played together] and shared all their toys.",
    ]),
    Plot("counting", "any", {"sum": story_sum, "at": PLACES, "box": ["basket", "bag", "box"]}, [
        "{Hero} liked to count. {He} counted [the steps to the door|the birds on the roof|the spoons on the table] every day.",
        "One {weather} {day}, {hero} went {to} with a {box}. {He} wanted to find {things}.",
        "{He} looked [here and there|under the trees|everywhere]. {Soon} {he} had {first} {things} in the {box}.",
        "{Friend_full} came by. \"[What do you look for|What do you have there]?\" asked {friend}. \"I have {first} {things},\" said {hero}.",
        "\"I can help you,\" said {friend}. {Friend} [looked too and|looked for a long time and] found {second} more.",
        "\"How many do we have now?\" asked {friend}. {Hero} put all the {things} in a row and [counted slowly|counted them].",
        "\"{First} and {second} make {sum},\" said {hero}. \"We have {sum} {things}!\"",
        "\"[You are so clever|You count so well|That is a lot]!\" said {friend}.",
        "?They [took the {things} home|showed the {things} to {hero}'s {elder}]. \"{Sum} {things}!\" said {hero}'s {elder}. \"[That is a fine number|You must be tired].\"",
        "?They gave some of the {things} to the other children.",
        "?That night, {hero} counted the stars. But [there were too many|{he} fell asleep before the end].",
        "[It was a good day.|{Hero} was {happy}.|In {his} dream, {hero} counted them all.]",
    ]),
    Plot("a quarrel", "any", {"thing": ["swing", "red chair", "big drum", "blue boat", "yellow wagon"]}, [
        "{Hero} and {friend_full} were the best of friends. They played together every day.",
        "But one {day}, both of them wanted the {thing}. \"I was here first!\" said {hero}. \"No, I was!\" said {friend}.",
        "They [pulled and pushed|shouted at each other]. \"You are not my friend any more!\" {hero} [cried|shouted].",
        "{Friend} [went home|ran away] and {hero} had the {thing} alone. But it was [no fun|not nice] to play alone.",
        "{Hero} [sat down|went home] and told {his} {elder} about it. \"[Which is better|What do you like more],\" asked {his} {elder}, \"the {thing} or your friend?\"",
        "{Hero} [thought about it|did not have to think long]. \"My friend,\" {he} said.",
        "So {hero} [picked some flowers|took two apples] and went to {friend}'s house. {He} [knocked|knocked on the door].",
        "{Friend} opened the door. \"I am sorry,\" said {hero}. \"[I was not kind|I should not shout at you].\"",
        "\"I am sorry too,\" said {friend}. \"[I missed you|It was silly].\" They [hugged|laughed and hugged].",
        "?\"[You can go first|First you, then I],\" said {hero}. \"No, you go first!\" said {friend}, and they both laughed.",
        "After that, they always [took turns|shared the {thing}]. [They were friends for a long, long time.|It was much more fun with two.|]",
    ]),
]
